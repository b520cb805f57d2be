//! Trying a connection out before it is relied on: the vendor is asked for its list of models, which costs nothing and
//! needs a credential that is good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_core::ids::RequestId;
use brokle_core::json;
use brokle_core::tenancy::Tenant;
use brokle_runtime::exchange::{Call, ErrorOutcome, Preparation};
use brokle_runtime::{Body, ProviderInstance};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::Incoming as Upstream;

use crate::attempts::{error_body, next_piece, plugin_head, send};
use crate::connections::{NewConnection, Template};
use crate::egress::Origin;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::routing::Candidate;

/// How long the vendor may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// What is read of its list.
const LIST: usize = 4 << 20;
/// The operation, as providers know it.
const OPERATION: &str = "models";

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// The vendor answered.
    Works {
        /// How long it took.
        latency: Duration,
        /// How many models it listed; none if its list is in a form of its own.
        models: Option<usize>,
    },
    /// It didn't, or not as it should.
    Fails {
        /// The status that the vendor answered, or that a caller would have got.
        status: u16,
        /// A stable code.
        code: String,
        /// What a person may read.
        message: String,
    },
    /// The provider has nothing to be asked for that costs nothing, or needs no vendor at all.
    Untested,
}

impl Gateway {
    /// Checks what somebody wrote against the provider's schema, without asking the vendor.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_connection(&self, tenant: Tenant, provider: &str, new: NewConnection) -> Result<(), String> {
        self.bind(tenant, provider, new).map(|_| ())
    }

    /// Asks the vendor, as a call of this tenant's would; with several secrets with each of them, until one fails.
    ///
    /// # Errors
    /// What is wrong with the connection itself.
    pub async fn try_connection(
        &self,
        tenant: Tenant,
        provider: &str,
        new: NewConnection,
    ) -> Result<Trial, String> {
        let several = new.secrets.len();
        if several > 1 {
            // Each for itself: one that is good would hide one that isn't.
            let mut last = Trial::Untested;
            for (index, secret) in new.secrets.clone().into_iter().enumerate() {
                let one = NewConnection { secrets: vec![secret], ..new.clone() };
                last = Box::pin(self.try_connection(tenant, provider, one)).await?;
                if let Trial::Fails { message, .. } = &mut last {
                    *message = format!("secret {} of {several}: {message}", index + 1);
                    return Ok(last);
                }
            }
            return Ok(last);
        }
        let candidate = self.bind(tenant, provider, new)?;
        if candidate.connection.origin.is_none() {
            return Ok(Trial::Untested);
        }
        let tried = tokio::time::timeout(TIMEOUT, self.ask(&candidate)).await;
        let tried = tried.unwrap_or_else(|_| {
            let message =
                format!("Provider '{}' didn't answer in time.", candidate.connection.provider_name());
            Err(Refusal::upstream(504, "upstream_timeout", message))
        });
        Ok(tried.unwrap_or_else(|refusal| Trial::Fails {
            status: refusal.status,
            code: refusal.code.into_owned(),
            message: refusal.message,
        }))
    }

    /// Where a connection of the tenant's goes; none where it can't be made.
    #[must_use]
    pub fn origin_of(&self, tenant: Tenant, provider: &str, new: NewConnection) -> Option<Origin> {
        self.bind(tenant, provider, new).ok()?.connection.origin.clone()
    }

    fn bind(&self, tenant: Tenant, provider: &str, new: NewConnection) -> Result<Candidate, String> {
        let plugins = self.parts.plugins.load();
        // A tenant's word doesn't open private addresses.
        let template = Template { provider: provider.to_owned(), new, trusted: false };
        let connection = template.bind(plugins.of(tenant), &self.parts.egress)?;
        Ok(Candidate::of(&Arc::new(connection), ""))
    }

    pub(crate) async fn ask(&self, candidate: &Candidate) -> Result<Trial, Refusal> {
        let connection = &candidate.connection;
        let mut instance = connection.plugin.open(connection.context.clone()).await?;
        if !instance.offers(OPERATION) {
            return Ok(Trial::Untested);
        }
        let now = self.parts.clock.now();
        let call = Call {
            operation: OPERATION.into(),
            model: String::new(),
            streaming: false,
            format: "canonical".into(),
            content_type: "application/json".into(),
            request_id: RequestId::generate(&*self.parts.clock, &*self.parts.random).to_string(),
            created: u64::try_from(now.timestamp()).unwrap_or(0),
            options: connection.options.clone(),
            attributes: connection.attributes.clone(),
        };
        let nothing = Body::json(Bytes::new());
        let prepared = instance.prepare(&call, nothing.clone()).await?;
        let Preparation::Request(wanted) = prepared.map_err(Refusal::from_problem)? else {
            return Ok(Trial::Untested);
        };
        let begun = Instant::now();
        let (head, body) = send(self, candidate, &wanted, &nothing, &HeaderMap::new()).await?.into_parts();
        let latency = begun.elapsed();
        if head.status.is_success() {
            return Ok(Trial::Works { latency, models: listed(&self.read(body).await?) });
        }
        Err(self.refused(instance, &call, head.status.as_u16(), &head.headers, body).await?)
    }

    /// Why a vendor refused, in its component's words.
    pub(crate) async fn refused(
        &self,
        mut instance: ProviderInstance,
        call: &Call,
        status: u16,
        headers: &HeaderMap,
        mut body: Upstream,
    ) -> Result<Refusal, Refusal> {
        let text = error_body(&mut body, self.parts.timeouts.idle).await;
        Ok(match instance.map_error(call, &plugin_head(status, headers), text).await? {
            ErrorOutcome::Problem(problem) => Refusal::from_problem(problem),
            ErrorOutcome::Next(_) => Refusal::upstream(502, "upstream_error", "The vendor isn't ready."),
        })
    }

    async fn read(&self, mut body: Upstream) -> Result<Bytes, Refusal> {
        let mut read = BytesMut::new();
        while let Some(piece) = next_piece(&mut body, self.parts.timeouts.idle).await? {
            read.extend_from_slice(&piece);
            if read.len() > LIST {
                break;
            }
        }
        Ok(read.freeze())
    }
}

/// The length of the list: OpenAI's `data`, or `models` as others call it.
fn listed(answer: &[u8]) -> Option<usize> {
    let list = json::find(answer, "/data").or_else(|| json::find(answer, "/models"))?;
    let list = answer.get(list).filter(|list| list.starts_with(b"["))?;
    Some(json::elements(list).len())
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn a_list_is_counted_whatever_it_is_called() {
        assert_eq!(listed(br#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#), Some(2));
        assert_eq!(listed(br#"{"models":[]}"#), Some(0));
        assert_eq!(listed(br#"{"data":{"id":"a"}}"#), None);
        assert_eq!(listed(b"<html>"), None);
    }
}
