//! A trace's observations, put into each other.
//!
//! Spans come from anywhere, so nothing is taken for granted: a parent that isn't there (another service's) makes its
//! child a root; parents in a circle make one of them a root; below [`MAX_DEPTH`] children are listed beside their
//! parent rather than in it, since readers and writers of JSON recurse. No observation is lost.

use std::collections::{HashMap, HashSet};

use brokle_core::observation::SpanId;

use super::view::Node;

/// How deep the tree may get. Many JSON readers stop at 128 levels, and one of ours takes two.
pub(super) const MAX_DEPTH: usize = 48;

/// Makes a forest; siblings are in the order they began, then ended: some clients' clocks tell milliseconds only. Then as they came.
pub(super) fn build(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_by(|a, b| {
        let (a, b) = (&a.summary, &b.summary);
        a.start_time.cmp(&b.start_time).then(a.duration_ms.total_cmp(&b.duration_ms))
    });
    let known: HashSet<SpanId> = nodes.iter().map(|node| node.summary.span_id).collect();
    let mut forest = Forest { left: nodes.into_iter().map(Some).collect(), inside: HashMap::new() };
    let mut roots = Vec::new();
    for (at, node) in forest.left.iter().enumerate() {
        let Some(summary) = node.as_ref().map(|node| &node.summary) else { continue };
        match summary.parent_span_id.filter(|parent| known.contains(parent) && *parent != summary.span_id) {
            Some(parent) => forest.inside.entry(parent).or_default().push(at),
            None => roots.push(at),
        }
    }
    let mut built: Vec<Node> = roots.into_iter().flat_map(|root| forest.take(root, 1)).collect();
    // Whatever is left is in a circle, or below one: its first becomes a root.
    for at in 0..forest.left.len() {
        built.extend(forest.take(at, 1));
    }
    built
}

struct Forest {
    left: Vec<Option<Node>>,
    /// Which nodes say that they happened in this span.
    inside: HashMap<SpanId, Vec<usize>>,
}

impl Forest {
    /// The node with everything in it; at the depth's end, the node and everything below it side by side. Empty when it
    /// has been taken before.
    fn take(&mut self, at: usize, depth: usize) -> Vec<Node> {
        let mut taken = Vec::new();
        let mut waiting = vec![at];
        while let Some(at) = waiting.pop() {
            let Some(mut node) = self.left.get_mut(at).and_then(Option::take) else { continue };
            // Two observations of one span id (in different months' files): the first has the children.
            let inside = self.inside.remove(&node.summary.span_id).unwrap_or_default();
            if depth < MAX_DEPTH {
                node.children = inside.into_iter().flat_map(|child| self.take(child, depth + 1)).collect();
            } else {
                waiting.extend(inside.into_iter().rev());
            }
            taken.push(node);
        }
        taken
    }
}
