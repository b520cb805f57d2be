//! Errors on request: a prompt `error NAME`, where NAME is an HTTP status or one of the names in
//! `README.md`.

use brokle_plugin::{Problem, ProblemKind};

/// The problem that a prompt asks for, if it asks for one.
pub(crate) fn asked_for(prompt: &str) -> Option<Problem> {
    let name = prompt.trim().strip_prefix("error ")?.trim();
    let mut problem = match name {
        "context_length" => Problem::new(ProblemKind::ContextLength, "The prompt doesn't fit, as asked for."),
        "content_policy" => Problem::new(ProblemKind::ContentPolicy, "The content is refused, as asked for."),
        "overloaded" => Problem::new(ProblemKind::Overloaded, "There is no capacity, as asked for."),
        "timeout" => Problem::new(ProblemKind::Timeout, "The answer took too long, as asked for."),
        "unsupported" => Problem::new(ProblemKind::Unsupported, "This isn't supported, as asked for."),
        status => {
            let status = status.parse().ok().filter(|status| (400..=599).contains(status))?;
            let kind = Problem::kind_of_status(status);
            Problem {
                status: Some(status),
                ..Problem::new(kind, format!("This is the error {status} that was asked for."))
            }
        }
    };
    if matches!(problem.kind, ProblemKind::RateLimit) {
        problem.retry_after_ms = Some(1000);
    }
    Some(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_names_its_error() {
        let problem = asked_for(" error 429\n").unwrap();
        assert_eq!((problem.status, problem.retry_after_ms), (Some(429), Some(1000)));
        assert!(matches!(asked_for("error 500").unwrap().kind, ProblemKind::Upstream));
        assert!(matches!(asked_for("error context_length").unwrap().kind, ProblemKind::ContextLength));
        assert!(matches!(asked_for("error overloaded").unwrap().kind, ProblemKind::Overloaded));
    }

    #[test]
    fn other_prompts_name_none() {
        for prompt in
            ["error", "error 200", "error 42", "errors 500", "what does error 500 mean?", "error of mine"]
        {
            assert!(asked_for(prompt).is_none(), "{prompt}");
        }
    }
}
