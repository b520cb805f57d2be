//! The whole answer.

use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Call, Output};

use super::AnswerDecoder;
use super::event::{Answer, Block};

/// The outputs of a whole answer, for the self-test.
pub(crate) fn whole(data: &[u8]) -> Result<Vec<Output>, Problem> {
    let mut decoder = AnswerDecoder::new(&Call {
        operation: "chat.completions".into(),
        model: String::new(),
        streaming: false,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "id".into(),
        created: 0,
        options: Vec::new(),
        attributes: Vec::new(),
    });
    let mut outputs = Vec::new();
    decoder.document(data, &mut outputs)?;
    Ok(outputs)
}

impl AnswerDecoder {
    pub(crate) fn document(&mut self, data: &[u8], outputs: &mut Vec<Output>) -> Result<(), Problem> {
        let answer: Answer<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        self.begin(outputs);
        for block in answer.output.message.content {
            self.block(block, outputs);
        }
        self.count(answer.usage, outputs);
        self.stop_reason = answer.stop_reason;
        self.trace = answer.trace.and_then(|trace| trace.guardrail);
        self.end(outputs);
        Ok(())
    }

    fn block(&mut self, block: Block<'_>, outputs: &mut Vec<Output>) {
        self.chat.text("content", &block.text.unwrap_or_default(), outputs);
        if let Some(reasoning) = block.reasoning_content {
            if let Some(text) = reasoning.reasoning_text {
                self.chat.text("reasoning_content", &text.text, outputs);
                self.thought(&text.text, &text.signature);
            }
            if let Some(data) = reasoning.redacted_content {
                self.redacted(&data);
            }
        }
        if let Some(call) = block.tool_use.filter(|call| call.kind.is_none()) {
            let arguments = call.input.map_or("{}", |input| input.get());
            self.call(&call.tool_use_id, &call.name, arguments, outputs);
        }
        if let Some(cited) = block.citations_content {
            for text in cited.content {
                self.chat.text("content", &text.text, outputs);
            }
            self.citations.extend(cited.citations);
        }
    }
}
