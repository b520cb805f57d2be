use super::*;

fn names(sources: &[Source]) -> Vec<&'static str> {
    let name = |source: &Source| match *source {
        Attribute(name) | Resource(name) | Below(name) => vec![name],
        Event(event, name) => vec![event, name],
        Events(events) => events.to_vec(),
    };
    sources.iter().flat_map(name).collect()
}

#[test]
fn the_documentation_names_every_place() {
    let sources = [
        NAME,
        OPERATION,
        PROVIDER,
        MODEL_REQUESTED,
        MODEL_SERVED,
        FINISH_REASON,
        SESSION,
        USER,
        TAGS,
        ERROR_MESSAGE,
        ERROR_CLASS,
        INPUT,
        OUTPUT,
    ];
    let plain = [
        INPUT_TOKENS,
        OUTPUT_TOKENS,
        TOTAL_TOKENS,
        CACHED_READ_TOKENS,
        CACHE_WRITE_TOKENS,
        REASONING_TOKENS,
        AUDIO_INPUT_TOKENS,
        AUDIO_OUTPUT_TOKENS,
        IMAGE_INPUT_TOKENS,
        IMAGE_OUTPUT_TOKENS,
        COST,
        STREAMING,
        HTTP_STATUS,
        &[USAGE_OBJECT, SYSTEM_INSTRUCTIONS],
    ];
    let mut all: Vec<&str> = sources.iter().flat_map(|sources| names(sources)).collect();
    all.extend(plain.into_iter().flatten());
    all.extend(KEPT_AS.iter().flat_map(|(name, sources)| [&[*name], &names(sources)[..]].concat()));
    all.extend(KIND.iter().map(|(name, _)| name));
    all.extend(
        KIND_BY_PRESENCE
            .iter()
            .flat_map(|(names, kind)| if *kind == Kind::Generation { &[] } else { *names }),
    );
    all.extend(FIRST_TOKEN.iter().map(|moment| match *moment {
        Moment::Seconds(name) | Moment::Milliseconds(name) | Moment::Time(name) | Moment::Event(name) => name,
    }));
    let docs = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/telemetry.md"));
    for name in all {
        assert!(
            docs.contains(&format!("`{name}`")) || docs.contains(&format!("`{name}.*`")),
            "docs/telemetry.md doesn't name {name}"
        );
    }
}
