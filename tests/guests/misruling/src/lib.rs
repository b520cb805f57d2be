//! A guardrail that fails in the way that a text names: `do panic`, `do spin`, `do edit-outside`, `do hold`, `do fail`,
//! `do retry`. An answer gets the count of the request's texts, which its ruling on the request left behind.

use brokle_plugin::Description;
use brokle_plugin::guardrail::*;

struct Misruling;

impl Misruling {
    #[expect(clippy::panic, reason = "a trap is what is tested")]
    fn obey<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Ruling, Failure> {
        for text in texts {
            let Some(order) = text.split("do ").nth(1) else { continue };
            match order.split(' ').next().unwrap_or_default() {
                "panic" => panic!("as told"),
                "spin" => loop {
                    std::hint::black_box(0);
                },
                "edit-outside" => return Ok(Ruling::change(vec![Edit::replace(0, 0..100_000, "")])),
                "fail" => return Err(Failure::Unavailable("as told".into())),
                "retry" => return Ok(Ruling::retry("again")),
                _ => {}
            }
        }
        Ok(Ruling::allow())
    }
}

impl Guardrail for Misruling {
    fn describe() -> Description {
        Description::guardrail(["request", "response"])
    }

    fn new() -> Result<Self, Failure> {
        Ok(Self)
    }

    fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        let ruling = Self::obey(texts.iter().map(|text| text.value.as_str()))?;
        Ok(ruling.with_state(texts.len().to_string().into_bytes()))
    }

    fn on_response(&mut self, call: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        let ruling = Self::obey(texts.iter().map(|text| text.value.as_str()))?;
        Ok(ruling.annotate("request_texts", String::from_utf8_lossy(&call.state).as_ref()))
    }

    fn on_chunk(
        &mut self,
        _: &Call,
        _: &Document,
        fragments: &[Fragment],
        _: bool,
    ) -> Result<StreamRuling, Failure> {
        let ruling = Self::obey(fragments.iter().map(|fragment| fragment.value.as_str()))?;
        let held = fragments.iter().any(|fragment| fragment.value.contains("hold"));
        Ok(ruling.hold(if held { vec![100_000] } else { Vec::new() }))
    }
}

brokle_plugin::export!(guardrail: Misruling);
