//! An answer that a plugin translates: framed here, decoded there, and followed where it leads.

use std::time::Duration;

use brokle_runtime::exchange::{Call, ErrorOutcome, NextRequest, Output, ResponseHead, ResponsePlan};
use brokle_runtime::{Body, FrameError, Framer, ProviderInstance};
use http::HeaderMap;
use hyper::body::Incoming as Upstream;

use crate::attempts::{error_body, next_piece, plugin_head, send};
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::routing::Candidate;

/// How many further requests an answer may need.
const MAX_STEPS: u32 = 16;
/// The longest wait before one of them.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// An answer on its way through a plugin. Holds one of the runtime's slots.
pub(crate) struct Decoding {
    pub(crate) instance: ProviderInstance,
    pub(crate) call: Call,
    pub(crate) candidate: Candidate,
    /// The caller's body, for further requests.
    pub(crate) request: Body,
    pub(crate) passed: HeaderMap,
    pub(crate) upstream: Upstream,
    /// None once the answer has ended.
    pub(crate) framer: Option<Framer>,
    pub(crate) steps: u32,
}

/// A framer by the name that a plugin gave.
pub(crate) fn framer(framing: &str) -> Result<Option<Framer>, Refusal> {
    Framer::new(framing).map(Some).ok_or_else(|| {
        let message = format!("The plugin asked for framing '{framing}', which this host doesn't offer.");
        Refusal::upstream(502, "plugin_request_refused", message)
    })
}

fn unreadable(error: FrameError) -> Refusal {
    let code = match error {
        FrameError::CutShort => "upstream_disconnected",
        FrameError::TooLarge(_) | FrameError::Malformed { .. } => "upstream_error",
    };
    Refusal::upstream(502, code, format!("The provider's answer can't be read: {error}."))
}

/// What the next bytes of an answer amount to, and what else it needs; none at its end, from where on there is no framer.
///
/// # Errors
/// The upstream, the plugin or the answer failed. Nothing more comes.
pub(crate) async fn step(
    instance: &mut ProviderInstance,
    upstream: &mut Upstream,
    framer: &mut Option<Framer>,
    idle: Duration,
) -> Result<Option<(Vec<Output>, Option<NextRequest>)>, Refusal> {
    loop {
        let Some(framing) = framer else { return Ok(None) };
        let Some(piece) = next_piece(upstream, idle).await? else {
            let rest = framer.take().map(Framer::finish).transpose().map_err(unreadable)?.flatten();
            let mut outputs = match rest {
                Some(frame) => instance.push(&[frame]).await?.map_err(Refusal::from_problem)?,
                None => Vec::new(),
            };
            let ending = instance.finish().await?.map_err(Refusal::from_problem)?;
            outputs.extend(ending.outputs);
            return Ok(Some((outputs, ending.next)));
        };
        let frames = framing.push(&piece).map_err(unreadable)?;
        if !frames.is_empty() {
            let outputs = instance.push(&frames).await?.map_err(Refusal::from_problem)?;
            return Ok(Some((outputs, None)));
        }
    }
}

impl Decoding {
    /// What the next bytes of the answer amount to; none at its end.
    ///
    /// # Errors
    /// The upstream, the plugin or the answer failed. Nothing more comes.
    pub(crate) async fn next(&mut self, gateway: &Gateway) -> Result<Option<Vec<Output>>, Refusal> {
        let idle = self.candidate.timeouts(gateway).idle;
        let step = step(&mut self.instance, &mut self.upstream, &mut self.framer, idle).await?;
        let Some((outputs, next)) = step else { return Ok(None) };
        if let Some(next) = next {
            let state = next.state.clone();
            let head = self.follow(gateway, next).await?;
            self.instance.begin_decoding(&self.call, &head, &state).await?;
        }
        Ok(Some(outputs))
    }

    /// Makes a further request; its answer takes the place of this one's.
    pub(crate) async fn follow(
        &mut self,
        gateway: &Gateway,
        mut next: NextRequest,
    ) -> Result<ResponseHead, Refusal> {
        loop {
            let head = self.ask(gateway, &next).await?;
            if (200..300).contains(&head.status) {
                return Ok(head);
            }
            let body = error_body(&mut self.upstream, gateway.parts.timeouts.idle).await;
            match self.instance.map_error(&self.call, &head, body).await? {
                ErrorOutcome::Problem(problem) => return Err(Refusal::from_problem(problem)),
                ErrorOutcome::Next(further) => next = further,
            }
        }
    }

    async fn ask(&mut self, gateway: &Gateway, next: &NextRequest) -> Result<ResponseHead, Refusal> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            let message = format!("The provider's answer needed more than {MAX_STEPS} further requests.");
            return Err(Refusal::upstream(504, "upstream_timeout", message));
        }
        tokio::time::sleep(Duration::from_millis(next.delay_ms.into()).min(MAX_DELAY)).await;
        let answer = send(gateway, &self.candidate, &next.request, &self.request, &self.passed).await?;
        let framing = match &next.request.response {
            ResponsePlan::Decoded(framing) => framing.as_str(),
            ResponsePlan::Native | ResponsePlan::Opaque => "whole",
        };
        self.framer = framer(framing)?;
        let (head, body) = answer.into_parts();
        self.upstream = body;
        Ok(plugin_head(head.status.as_u16(), &head.headers))
    }
}
