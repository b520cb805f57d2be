//! What becomes of the caller's body on its way to the vendor.

use std::borrow::Cow;

use brokle_core::form::FormError;
use brokle_runtime::exchange::BodyPlan;
use brokle_runtime::{Body, Repeated};
use bytes::Bytes;

use super::Segments;
use crate::refusal::Refusal;

/// The body that a plugin plans, and its media type. What the caller sent isn't copied.
///
/// # Errors
/// 400, when the caller's body isn't of the shape that an edit needs; 502, when the plugin edits what isn't there.
pub(crate) fn planned<'a>(
    plan: &'a BodyPlan,
    caller: &Body,
) -> Result<(Option<Cow<'a, str>>, Segments), Refusal> {
    let misfit = |error: &dyn std::fmt::Display| {
        Refusal::invalid("", format!("The request doesn't fit the provider: {error}."))
    };
    let absent = |what: &str| {
        let message = format!("The plugin edits {what} that isn't there.");
        Refusal::upstream(502, "plugin_request_refused", message)
    };
    Ok(match plan {
        BodyPlan::None => (None, Segments::default()),
        BodyPlan::Unchanged => (Some(caller.content_type()), caller.bytes().clone().into()),
        BodyPlan::Edits(edits) => {
            if caller.as_form().is_some() {
                return Err(absent("a JSON document"));
            }
            let changes = caller.changes(edits)?;
            let body = Segments::changed(caller.bytes(), &changes).map_err(|error| misfit(&error))?;
            (Some(caller.content_type()), body)
        }
        BodyPlan::Form(edits) => {
            let form = caller.as_form().ok_or_else(|| absent("a form"))?;
            let body = Segments::form(caller.bytes(), form, edits).map_err(|error| misfit(&error))?;
            (Some(caller.content_type()), body)
        }
        BodyPlan::Replaced(payload) => {
            let data = Bytes::from(payload.data.clone());
            let is_json = payload.content_type.starts_with("application/json");
            let data = if is_json { caller.complete(data)?.into() } else { data.into() };
            (Some(payload.content_type.as_str().into()), data)
        }
    })
}

impl From<Repeated> for Refusal {
    fn from(error: Repeated) -> Self {
        Self::upstream(502, "plugin_request_refused", format!("The plugin's request is refused: {error}."))
    }
}

impl From<FormError> for Refusal {
    fn from(error: FormError) -> Self {
        Self::invalid("", format!("The request's body is not a form: {error}."))
    }
}

#[cfg(test)]
mod tests {
    use brokle_runtime::exchange::{Edit, FormEdit, RenameField, SetField};

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"b c\"";
    const FORM: &str = "--b c\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n\u{0}RIFF\r\n--b\r\n--b c\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nopenai/whisper-1\r\n--b c--\r\n";

    fn text(plan: &BodyPlan, body: &Body) -> Result<(Option<String>, String), Refusal> {
        let (content_type, segments) = planned(plan, body)?;
        let bytes: Vec<u8> = segments.parts().flatten().copied().collect();
        let size = http_body::Body::size_hint(&segments).exact();
        assert_eq!(size, Some(bytes.len() as u64), "the length is told before it is sent");
        Ok((content_type.map(Into::into), String::from_utf8(bytes).unwrap()))
    }

    #[test]
    fn a_forms_file_goes_out_as_it_came() {
        let body = Body::form(TYPE, FORM.into()).unwrap();
        let same = text(&BodyPlan::Unchanged, &body).unwrap();
        assert_eq!(same, (Some(TYPE.into()), FORM.into()));
        let edits = BodyPlan::Form(vec![
            FormEdit::Set(SetField { name: "model".into(), value: "whisper-1".into() }),
            FormEdit::Rename(RenameField { name: "file".into(), to: "audio".into() }),
            FormEdit::Remove("missing".into()),
        ]);
        let (content_type, edited) = text(&edits, &body).unwrap();
        assert_eq!(content_type.as_deref(), Some(TYPE));
        assert_eq!(edited, FORM.replace("openai/whisper-1", "whisper-1").replace("\"file\"", "\"audio\""));
        let (_, segments) = planned(&edits, &body).unwrap();
        let within = |part: &Bytes| body.bytes().as_ptr_range().contains(&part.as_ptr());
        assert!(segments.parts().any(|part| within(part) && part.windows(4).any(|bytes| bytes == b"RIFF")));
    }

    #[test]
    fn what_isnt_there_isnt_edited() {
        let (form, json) = (Body::form(TYPE, FORM.into()).unwrap(), Body::json("{}".into()));
        let refused = |plan, body| text(&plan, body).unwrap_err().status;
        assert_eq!(refused(BodyPlan::Form(Vec::new()), &json), 502);
        assert_eq!(refused(BodyPlan::Edits(vec![Edit::Remove("/a".into())]), &form), 502);
        let forged = SetField { name: "model".into(), value: "x\r\n--b c\r\n".into() };
        assert_eq!(refused(BodyPlan::Form(vec![FormEdit::Set(forged)]), &form), 400);
        let refusal = Refusal::from(Body::form(TYPE, "--b c\r\n".into()).unwrap_err());
        assert_eq!((refusal.status, refusal.code.as_ref()), (400, "invalid_request"));
        assert!(refusal.message.contains("closing boundary"), "{}", refusal.message);
    }
}
