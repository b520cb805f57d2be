//! Names become addresses here, and only those that may be dialed.
//!
//! The filter stands between the resolver and the connector, so what is judged is what is dialed: a name that answers
//! differently the second time (DNS rebinding) gains nothing, because there is no second time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use super::address::Policy;

/// A resolver that leaves out the addresses that mustn't be dialed.
#[derive(Clone)]
pub(super) struct Filtered<R> {
    inner: R,
    policy: Arc<Policy>,
}

impl<R> Filtered<R> {
    pub(super) fn new(inner: R, policy: Arc<Policy>) -> Self {
        Self { inner, policy }
    }
}

impl<R> Service<Name> for Filtered<R>
where
    R: Service<Name, Error = std::io::Error>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Future: Send + 'static,
{
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let policy = self.policy.clone();
        let host = name.as_str().to_ascii_lowercase();
        let lookup = self.inner.call(name);
        Box::pin(async move {
            let mut allowed = Vec::new();
            let mut refused = None;
            for address in lookup.await? {
                match policy.check(&host, address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(reason) => refused = Some(reason),
                }
            }
            match refused {
                Some(reason) if allowed.is_empty() => Err(std::io::Error::other(reason)),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::IpAddr;

    use arc_swap::ArcSwap;
    use hyper_util::client::legacy::connect::HttpConnector;
    use tokio::net::TcpListener;

    use super::*;

    /// A name server that answers each question anew: the next of these.
    #[derive(Clone)]
    struct Flipping {
        answers: Vec<Vec<IpAddr>>,
        asked: usize,
        port: u16,
    }

    impl Service<Name> for Flipping {
        type Response = std::vec::IntoIter<SocketAddr>;
        type Error = std::io::Error;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            let answer = &self.answers[self.asked % self.answers.len()];
            self.asked += 1;
            let answer: Vec<_> = answer.iter().map(|address| SocketAddr::new(*address, self.port)).collect();
            std::future::ready(Ok(answer.into_iter()))
        }
    }

    fn filtered(answers: &[&[&str]], port: u16) -> Filtered<Flipping> {
        let parsed = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let policy = Policy { allow_private: false, named: ArcSwap::from_pointee(HashSet::new()) };
        let inner = Flipping { answers: answers.iter().map(parsed).collect(), asked: 0, port };
        Filtered::new(inner, Arc::new(policy))
    }

    /// However often a name is asked, and whatever else it says beside it, what mustn't be dialed doesn't come out.
    #[tokio::test]
    async fn a_name_that_changes_its_mind_gains_nothing() {
        let answers: [&[&str]; 6] = [
            &["93.184.215.14"],
            &["127.0.0.1"],
            &["93.184.215.14", "169.254.169.254", "::1"],
            &["::ffff:10.0.0.1", "2606:4700::1111", "64:ff9b::a9fe:a9fe"],
            &["0.0.0.0", "fd00:ec2::254"],
            &["100.64.0.1", "fe80::1"],
        ];
        let public = ["93.184.215.14", "2606:4700::1111"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut resolver = filtered(&answers, 443);
        for round in 0..10_000 {
            let given = resolver.call("rebind.example".parse().unwrap()).await;
            let expected = round % 6 == 0 || round % 6 == 2 || round % 6 == 3;
            assert_eq!(given.is_ok(), expected, "{round}");
            assert!(given.into_iter().flatten().all(|address| public.contains(&address.ip())), "{round}");
        }
    }

    /// The same through the connector that dials: nothing arrives where something listens.
    #[tokio::test]
    async fn nothing_reaches_a_listener_on_this_machine() {
        let canary = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = canary.local_addr().unwrap().port();
        let answers: [&[&str]; 4] =
            [&["127.0.0.1"], &["::ffff:127.0.0.1", "127.0.0.1"], &["0.0.0.0"], &["::1", "127.1.2.3"]];
        let mut http = HttpConnector::new_with_resolver(filtered(&answers, port));
        for _ in 0..10_000 {
            let target = format!("http://rebind.example:{port}/").parse().unwrap();
            let error = http.call(target).await.unwrap_err();
            let told = format!("{error:?}");
            assert!(told.contains("Private(") || told.contains("Never("), "{told}");
        }
        let came = tokio::time::timeout(std::time::Duration::from_millis(200), canary.accept()).await;
        assert!(came.is_err(), "somebody came");
    }
}
