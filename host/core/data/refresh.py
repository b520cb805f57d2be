#!/usr/bin/env python3
"""Turns a public price table into `models.json`, the model catalogue's data.

    python3 refresh.py PATH_TO_JSON --version 1.109.1 --as-of 2026-11-21

PATH_TO_JSON is LiteLLM's `model_prices_and_context_window_backup.json` (MIT licence), which travels
inside its wheel: `pip download --no-deps litellm && unzip -p litellm-*.whl
litellm/model_prices_and_context_window_backup.json > table.json`. `--version` is the wheel's version,
`--as-of` the day on which that was the newest one. Standard library only; the same input gives the
same bytes. What was left out, and why, is counted on standard error.

What the conversion decides (docs/model-catalogue.md says what each field means):

* A vendor's row is kept when its mode is one that the gateway serves, its end date isn't past, and it
  has a price or a context window. Names that the table invents (`1024-x-1024/…`, `azure/eu/…`,
  `fireworks-ai-up-to-4b`) are left out: no vendor's API takes them.
* Prices are computed in decimal from the table's literals. A literal with more than 15 significant
  digits is a binary float's noise, and is rounded to 15.
* The table writes 0 both for "free" and for "not filled in". A zero is believed for the models in
  FREE and for outputs that an operation doesn't have; any other zero is dropped, so that the price is
  unknown (or a part costs what its whole costs) rather than nothing.
* A token price under LEAST is a diffusion step's or a pixel's, in the wrong field: dropped.
* A price per image, second or character beside a price per token is the same money counted a second
  way, and is dropped. An embedding's price per image is not: it is charged on top.
* Rows of one vendor that differ only in a snapshot date, `-latest` or a path prefix, and agree on
  prices, sizes, mode and end date, become one row with aliases.
"""

import argparse
import collections
import datetime
import decimal
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
D = decimal.Decimal

# Our provider id -> the table's ids. The order is the catalogue's order of preference for a bare name:
# who makes models, then the clouds that resell them, then who hosts open weights.
PROVIDERS = {
    "openai": ["openai", "text-completion-openai"],
    "anthropic": ["anthropic"],
    "gemini": ["gemini"],
    "mistral": ["mistral"],
    "cohere": ["cohere", "cohere_chat"],
    "xai": ["xai"],
    "deepseek": ["deepseek"],
    "moonshot": ["moonshot"],
    "zai": ["zai"],
    "minimax": ["minimax"],
    "meta": ["meta", "meta_llama"],
    "dashscope": ["dashscope"],
    "ai21": ["ai21"],
    "perplexity": ["perplexity"],
    "voyage": ["voyage"],
    "jina": ["jina_ai"],
    "elevenlabs": ["elevenlabs"],
    "deepgram": ["deepgram"],
    "stability": ["stability"],
    "black_forest_labs": ["black_forest_labs"],
    "vertex": ["vertex_ai"],  # and every vertex_ai-*
    "azure": ["azure", "azure_text"],
    "azure_ai": ["azure_ai"],
    "bedrock": ["bedrock_converse", "bedrock", "bedrock_mantle"],
    "databricks": ["databricks"],
    "groq": ["groq"],
    "cerebras": ["cerebras"],
    "sambanova": ["sambanova"],
    "together": ["together_ai"],
    "fireworks": ["fireworks_ai", "fireworks_ai-embedding-models"],
    "deepinfra": ["deepinfra"],
    "cloudflare": ["cloudflare"],
    "nebius": ["nebius"],
    "novita": ["novita"],
    "nvidia": ["nvidia_nim"],
}

MODES = {
    "chat", "completion", "responses", "embedding", "rerank", "image_generation",
    "audio_transcription", "audio_speech", "moderation", "realtime",
}

# Models whose zero is their price.
FREE = re.compile(r"openai/omni-moderation-.*|zai/glm-4(\.\d+)?-flash")

CAPABILITIES = {
    "tools": "supports_function_calling",
    "parallel_tools": "supports_parallel_function_calling",
    "vision": "supports_vision",
    "json_schema": "supports_response_schema",
    "reasoning": "supports_reasoning",
    "prompt_caching": "supports_prompt_caching",
    "audio_in": "supports_audio_input",
    "audio_out": "supports_audio_output",
    "video_in": "supports_video_input",
    "pdf": "supports_pdf_input",
    "web_search": "supports_web_search",
    "computer_use": "supports_computer_use",
}

# Price kind -> the table's field; USD per token there, per million tokens here.
TOKEN_PRICES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
    "image_input": "input_cost_per_image_token",
    "image_output": "output_cost_per_image_token",
}
LEAST = D("0.002")
BATCH = ("input", "output", "cached_read", "cache_write")

INVENTED = re.compile(
    r"(low|medium|high|standard|hd|preset)/|\d+-x-\d+/|max-x-max/|(fireworks|together)-ai-|(.*/)?container$"
)
SNAPSHOT = re.compile(r"(-latest|-\d{4}-\d{2}-\d{2}|[-@]\d{8}|-\d{4}|-\d{3})$")


def price(value, per=1):
    """A table literal as our decimal string, or None when there is nothing in it."""
    if not isinstance(value, (D, int)) or isinstance(value, bool) or value < 0:
        return None
    value = D(value)
    if len(value.as_tuple().digits) > 15:
        value = decimal.Context(prec=15).plus(value)
    value = (value * per).normalize()
    return format(value, "f")


def token_prices(row, suffix=""):
    """The prices per million tokens of one row, or of its tier named by the suffix."""
    prices = {}
    for kind, field in TOKEN_PRICES.items():
        found = price(row.get(field + suffix), 1_000_000)
        if found is not None:
            prices[kind] = found
        batch = price(row.get(field + suffix + "_batches"), 1_000_000)
        if kind in BATCH and batch is not None:
            prices["batch_" + kind] = batch
    return prices


def unit_prices(row, mode):
    """The prices that aren't per token, per one unit."""
    prices = {}

    def put(kind, *fields):
        for field in fields:
            found = price(row.get(field))
            if found not in (None, "0"):
                prices[kind] = found
                return

    if mode == "image_generation":
        put("per_image", "output_cost_per_image", "input_cost_per_image")
    if mode == "embedding":
        put("per_image", "input_cost_per_image")
    if mode in ("audio_transcription", "audio_speech", "realtime"):
        put("per_second", "input_cost_per_second", "output_cost_per_second", "cost_per_second")
        put("per_character", "input_cost_per_character")
    if mode in ("rerank", "embedding"):
        put("per_query", "input_cost_per_query")
    search = row.get("search_context_cost_per_query")
    if isinstance(search, dict):
        found = price(search.get("search_context_size_medium"))
        if found not in (None, "0"):
            prices["per_web_search"] = found
    return prices


def prices_and_tiers(row, mode, free):
    """A row's prices, and what replaces them above a number of input tokens."""
    base, tiers = token_prices(row), {}
    for field in row:
        found = re.search(r"_above_(\d+)k_tokens$", field)
        if found:
            tiers[int(found[1]) * 1000] = token_prices(row, f"_above_{found[1]}k_tokens")
    for tier in row.get("tiered_pricing") or []:
        above = int(tier["range"][0])
        if above == 0:
            base = {**token_prices(tier), **base}
        else:
            tiers[above] = token_prices(tier)

    for kinds in [base, *tiers.values()]:
        if not free:
            no_output = mode in ("embedding", "rerank", "moderation")
            for kind in [k for k, v in kinds.items() if v == "0" and not (no_output and k == "output")]:
                del kinds[kind]
        # What an operation only has in one form is its whole.
        if mode == "image_generation" and "image_output" in kinds:
            kinds.setdefault("output", kinds["image_output"])
        if mode == "audio_speech" and "audio_output" in kinds:
            kinds.setdefault("output", kinds["audio_output"])
        if mode == "audio_transcription" and "audio_input" in kinds:
            kinds.setdefault("input", kinds["audio_input"])
    # A part at its whole's price says nothing; in a tier it does, since it hides the base's part.
    for part, whole in PARTS.items():
        if part in base and base[part] == base.get(whole) and not any(part in kinds for kinds in tiers.values()):
            del base[part]
    if any(0 < D(base.get(whole, "1")) < LEAST for whole in ("input", "output")):
        base, tiers = {}, {}
    # Only an output that doesn't exist has a price: that is no price.
    if base.get("output") == "0" and len(base) == 1 and not free:
        base = {}

    units = unit_prices(row, mode)
    if base and mode != "embedding":
        units = {k: v for k, v in units.items() if k in ("per_query", "per_web_search")}
    tiers = [{"above": above, "prices": kinds} for above, kinds in sorted(tiers.items()) if kinds]
    return {**base, **units}, tiers


PARTS = {
    "cached_read": "input", "cache_write": "input", "audio_input": "input", "image_input": "input",
    "reasoning": "output", "audio_output": "output", "image_output": "output",
}


def api_name(key, table_provider, provider):
    """The name that the vendor's API takes, or None for a name that only the table has."""
    name = key
    for prefix in {table_provider, "vertex_ai", "together_ai", "fireworks_ai", "nvidia_nim", "jina_ai",
                   "cohere", "bedrock", provider}:
        if name.startswith(prefix + "/"):
            name = name[len(prefix) + 1:]
            break
    if INVENTED.match(name):
        return None
    # A path here is a region or a commitment of the table's making.
    if provider in ("azure", "azure_ai", "bedrock") and "/" in name:
        return None
    if provider == "nvidia":
        name = name.removeprefix("ranking/")
    return name


def convert_row(key, row, provider, mode):
    capabilities = [ours for ours, field in CAPABILITIES.items() if row.get(field) is True]
    if "image" in (row.get("supported_output_modalities") or []):
        capabilities.append("image_out")
    name = api_name(key, row["litellm_provider"], provider)
    prices, tiers = prices_and_tiers(row, mode, bool(FREE.fullmatch(f"{provider}/{name}")))
    return {
        "provider": provider,
        "name": name,
        "aliases": [],
        "mode": mode,
        "context_window": size(row.get("max_input_tokens") or row.get("max_tokens")),
        "max_output": size(row.get("max_output_tokens")) if mode not in ("embedding", "rerank") else None,
        "capabilities": capabilities,
        "prices": prices,
        "tiers": tiers,
        "deprecated": row.get("deprecation_date"),
        "source": row.get("source") if str(row.get("source", "")).startswith("https://") else None,
    }


def size(value):
    try:
        value = int(value)
    except (TypeError, ValueError):
        return None
    return value if 0 < value < 2**32 else None


def signature(row):
    """What two names must agree on to be one model."""
    return json.dumps([row[k] for k in ("mode", "context_window", "max_output", "prices", "tiers", "deprecated")],
                      sort_keys=True)


def merge_aliases(rows):
    """Folds snapshots, `-latest` and short paths of one provider into the row they agree with."""
    by_name = {row["name"]: row for row in rows}
    groups = collections.defaultdict(list)
    for row in rows:
        groups[SNAPSHOT.sub("", row["name"]), signature(row)].append(row)
    for (stem, _), group in sorted(groups.items()):
        head = next((r for r in group if r["name"] in (stem, stem + "-latest")), None)
        if head is None:
            continue
        for row in group:
            if row is not head and by_name.pop(row["name"], None):
                absorb(head, row)
    # `kimi-k2` beside `accounts/fireworks/models/kimi-k2`: the API takes the long one.
    short = {}
    for name in sorted(by_name):
        short.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    for tail, names in short.items():
        long = [n for n in names if n != tail]
        if tail in by_name and len(long) == 1 and signature(by_name[tail]) == signature(by_name[long[0]]):
            absorb(by_name[long[0]], by_name.pop(tail))
    return list(by_name.values())


def absorb(head, row):
    head["aliases"] = sorted({*head["aliases"], row["name"], *row["aliases"]})
    head["capabilities"] = sorted({*head["capabilities"], *row["capabilities"]}, key=order_of_capability)
    head["source"] = head["source"] or row["source"]


def order_of_capability(name):
    return ([*CAPABILITIES, "image_out"]).index(name)


def patterns(rows, retired):
    """Names that are made by rule: fine-tunes, and snapshots that aren't in the table yet."""
    every = [(r["provider"], n, r) for r in rows for n in [r["name"], *r["aliases"]]]
    found = []
    for provider, name, row in every:
        if provider == "openai" and name.startswith("ft:"):
            found.append((provider, name + ":*", row["name"]))
    for row in rows:
        provider, name = row["provider"], row["name"]
        if SNAPSHOT.search(name) or name.startswith("ft:") or row["mode"] not in ("chat", "responses"):
            continue
        if provider in ("openai", "anthropic"):
            glob = name + "-20*"
        elif provider == "vertex" and name.startswith("claude-") and "@" not in name:
            glob = name + "@20*"
        else:
            continue
        # A snapshot with another price, even a retired one, forbids guessing the next one's.
        prefix = glob[:-1]
        known = [r for p, n, r in every if p == provider and n.startswith(prefix)]
        known += [r for r in retired if r["provider"] == provider and r["name"].startswith(prefix)]
        if all(r["prices"] == row["prices"] and r["tiers"] == row["tiers"] for r in known):
            found.append((provider, glob, name))
    return [{"provider": p, "pattern": g, "model": m} for p, g, m in sorted(set(found))]


def convert(table, as_of):
    ours = {theirs: provider for provider, ids in PROVIDERS.items() for theirs in ids}
    rank = {theirs: i for ids in PROVIDERS.values() for i, theirs in enumerate(ids)}
    left_out = collections.Counter()
    kept, retired = {}, []
    for key, row in sorted(table.items()):
        theirs = row.get("litellm_provider") or ""
        provider = ours.get("vertex_ai" if theirs.startswith("vertex_ai") else theirs)
        if provider is None:
            left_out["vendor not listed"] += 1
            continue
        mode = row.get("mode")
        if mode not in MODES:
            left_out["mode not served"] += 1
            continue
        if api_name(key, theirs, provider) is None:
            left_out["name of the table's making"] += 1
            continue
        model = convert_row(key, row, provider, mode)
        if model["deprecated"] and model["deprecated"] < as_of:
            left_out["past its end date"] += 1
            retired.append(model)
            continue
        if not model["prices"] and not model["context_window"]:
            left_out["neither price nor size"] += 1
            continue
        # One name under two of the table's spellings: the vendor's first id, then the priced one.
        place = (rank.get(theirs, 0), not model["prices"], key)
        slot = (provider, model["name"])
        if slot in kept:
            left_out["same name twice"] += 1
            if kept[slot][1]["prices"] != model["prices"]:
                print(f"note: {provider}/{model['name']} has two prices in the table", file=sys.stderr)
        if slot not in kept or place < kept[slot][0]:
            kept[slot] = (place, model)

    rows = []
    for provider in PROVIDERS:
        rows += merge_aliases([m for (p, _), (_, m) in sorted(kept.items()) if p == provider])
    rows.sort(key=lambda r: (r["provider"], r["name"]))
    for reason, count in left_out.most_common():
        print(f"left out, {reason}: {count}", file=sys.stderr)
    return rows, patterns(rows, retired)


def line(row):
    """One compact line, without what is empty."""
    return json.dumps({k: v for k, v in row.items() if v not in (None, [], {})},
                      ensure_ascii=False, separators=(",", ":"))


def main():
    arguments = argparse.ArgumentParser(description="Turn a public price table into models.json.")
    arguments.add_argument("table", type=pathlib.Path)
    arguments.add_argument("--version", required=True, help="the table's release, as in 1.109.1")
    arguments.add_argument("--as-of", required=True, type=datetime.date.fromisoformat)
    arguments.add_argument("--output", type=pathlib.Path, default=HERE / "models.json")
    given = arguments.parse_args()

    table = json.loads(given.table.read_text(encoding="utf-8"), parse_float=D)
    table.pop("sample_spec", None)
    rows, globs = convert(table, given.as_of.isoformat())
    sources = sorted({r["source"] for r in rows if r["source"]})
    for row in rows:
        row["source"] = sources.index(row["source"]) if row["source"] else None
    used = {r["provider"] for r in rows}

    head = {
        "source": "LiteLLM model_prices_and_context_window_backup.json",
        "source_version": given.version,
        "as_of": given.as_of.isoformat(),
        "license": "MIT",
    }
    text = ["{"]
    text += [f"{json.dumps(k)}:{json.dumps(v)}," for k, v in head.items()]
    text += [f'"providers":{json.dumps([p for p in PROVIDERS if p in used])},']
    text += ['"sources":[', ",\n".join(json.dumps(s) for s in sources), "],"]
    text += ['"patterns":[', ",\n".join(line(p) for p in globs), "],"]
    text += ['"models":[', ",\n".join(line(r) for r in rows), "]", "}", ""]
    given.output.write_text("\n".join(text), encoding="utf-8")
    print(f"{len(rows)} models, {sum(len(r['aliases']) for r in rows)} aliases, {len(globs)} patterns, "
          f"{given.output.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
