"""Writes sentences.jsonl: about 1,000 labelled sentences, from presidio-evaluator's templates and fake people.

Offline but for the installation; the same seed gives the same sentences. See generate.sh.
"""

import json
import random
import sys

import numpy
from faker import Faker
from presidio_evaluator.data_generator import PresidioSentenceFaker

SEED, COUNT = 20, 1000
# presidio's names of what this component finds, and its own.
NAMES = {
    "EMAIL_ADDRESS": "EMAIL",
    "IP_ADDRESS": "IP",
    "US_SSN": "SSN",
    "IBAN_CODE": "IBAN",
    "CREDIT_CARD": "CREDIT_CARD",
    "PHONE_NUMBER": "PHONE",
    "DATE_TIME": "DATE",
    "URL": "URL",
    "DOMAIN_NAME": "URL",
    "US_DRIVER_LICENSE": "DRIVER_LICENSE",
}


def main(out):
    random.seed(SEED)
    numpy.random.seed(SEED)
    Faker.seed(SEED)
    fake = PresidioSentenceFaker("en_US", lower_case_ratio=0.05, random_seed=SEED)
    for sample in fake.generate_new_fake_sentences(num_samples=COUNT):
        spans = [
            {
                "type": NAMES[span.entity_type],
                "start": len(sample.full_text[: span.start_position].encode()),
                "end": len(sample.full_text[: span.end_position].encode()),
            }
            for span in sample.spans
            if span.entity_type in NAMES
        ]
        out.write(json.dumps({"text": sample.full_text, "spans": spans}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        main(out)
