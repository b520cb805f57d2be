//! A request's body on its way out: slices of what is in memory, or a caller's body that is passed on as it comes.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, Sleep};

use super::Segments;
use crate::refusal::Refusal;

/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A caller's body that hasn't come yet.
pub type CallerBody = UnsyncBoxBody<Bytes, BodyError>;

/// What goes out.
#[derive(Debug)]
pub enum Outgoing {
    /// It is here.
    Whole(Segments),
    /// It is coming.
    Streamed(Box<Streamed>),
}

impl From<Segments> for Outgoing {
    fn from(segments: Segments) -> Self {
        Self::Whole(segments)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(segments) => {
                Pin::new(segments).poll_frame(context).map(|next| next.map(|frame| frame.map_err(Into::into)))
            }
            Self::Streamed(streamed) => Pin::new(streamed.as_mut()).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(segments) => segments.is_end_stream(),
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(segments) => segments.size_hint(),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}

/// A caller's body, within limits: so many bytes in all, and none of them later than `idle` after the one before. What
/// goes beyond fails the request, and is noted for whoever asks why it failed.
#[derive(Debug)]
pub struct Streamed {
    body: CallerBody,
    left: u64,
    most: u64,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    fault: Arc<OnceLock<Refusal>>,
}

impl Streamed {
    /// A body within limits, and where it says why it broke off.
    ///
    /// # Errors
    /// 413, when its length is told and too great.
    pub fn new(
        body: CallerBody,
        most: u64,
        idle: Duration,
    ) -> Result<(Self, Arc<OnceLock<Refusal>>), Refusal> {
        if body.size_hint().lower() > most {
            return Err(too_large(most));
        }
        let fault = Arc::new(OnceLock::new());
        let timer = Box::pin(tokio::time::sleep(idle));
        Ok((Self { body, left: most, most, idle, timer, fault: Arc::clone(&fault) }, fault))
    }

    fn fail(&self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let error = refusal.to_string();
        let _ = self.fault.set(refusal);
        Poll::Ready(Some(Err(error.into())))
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(context) else {
            ready!(self.timer.as_mut().poll(context));
            return self.fail(Refusal::client(408, "request_timeout", "The request's body came too slowly."));
        };
        let idle = self.idle;
        self.timer.as_mut().reset(Instant::now() + idle);
        match next {
            None => Poll::Ready(None),
            Some(Err(_)) => {
                self.fail(Refusal::client(400, "incomplete_body", "The request's body broke off."))
            }
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left.checked_sub(size) {
                    Some(left) => self.left = left,
                    None => return self.fail(too_large(self.most)),
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

fn too_large(most: u64) -> Refusal {
    let message = format!("The request's body is larger than the {most} bytes that are allowed.");
    Refusal::client(413, "request_too_large", message)
}
