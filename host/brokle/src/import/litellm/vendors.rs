//! LiteLLM's prefixes of models, our providers, and the variable that LiteLLM takes the key from where the file names none.

/// Prefix, provider, variable; without a variable no key is needed.
const VENDORS: [(&str, &str, Option<&str>); 46] = [
    ("anthropic", "anthropic", Some("ANTHROPIC_API_KEY")),
    ("azure", "azure", Some("AZURE_API_KEY")),
    ("azure_ai", "azure-foundry", Some("AZURE_AI_API_KEY")),
    ("bedrock", "bedrock", Some("BEDROCK_CREDENTIALS")),
    ("cerebras", "cerebras", Some("CEREBRAS_API_KEY")),
    ("cohere", "cohere", Some("COHERE_API_KEY")),
    ("cohere_chat", "cohere", Some("COHERE_API_KEY")),
    ("custom_openai", "openai", Some("OPENAI_API_KEY")),
    ("databricks", "databricks", Some("DATABRICKS_API_KEY")),
    ("deepinfra", "deepinfra", Some("DEEPINFRA_API_KEY")),
    ("deepseek", "deepseek", Some("DEEPSEEK_API_KEY")),
    ("featherless_ai", "featherless", Some("FEATHERLESS_AI_API_KEY")),
    ("fireworks_ai", "fireworks", Some("FIREWORKS_AI_API_KEY")),
    ("friendliai", "friendli", Some("FRIENDLI_TOKEN")),
    ("gemini", "gemini", Some("GEMINI_API_KEY")),
    ("groq", "groq", Some("GROQ_API_KEY")),
    ("hosted_vllm", "vllm", None),
    ("huggingface", "huggingface", Some("HUGGINGFACE_API_KEY")),
    ("jina_ai", "jina", Some("JINA_AI_API_KEY")),
    ("litellm_proxy", "litellm", Some("LITELLM_PROXY_API_KEY")),
    ("llamafile", "llamacpp", None),
    ("lm_studio", "lmstudio", None),
    ("mistral", "mistral", Some("MISTRAL_API_KEY")),
    ("moonshot", "moonshot", Some("MOONSHOT_API_KEY")),
    ("nebius", "nebius", Some("NEBIUS_API_KEY")),
    ("novita", "novita", Some("NOVITA_API_KEY")),
    ("nscale", "nscale", Some("NSCALE_API_KEY")),
    ("nvidia_nim", "nvidia", Some("NVIDIA_NIM_API_KEY")),
    ("ollama", "ollama", None),
    ("ollama_chat", "ollama", None),
    ("openai", "openai", Some("OPENAI_API_KEY")),
    ("openai_like", "openai", Some("OPENAI_LIKE_API_KEY")),
    ("openrouter", "openrouter", Some("OPENROUTER_API_KEY")),
    ("perplexity", "perplexity", Some("PERPLEXITYAI_API_KEY")),
    ("replicate", "replicate", Some("REPLICATE_API_KEY")),
    ("sambanova", "sambanova", Some("SAMBANOVA_API_KEY")),
    ("text-completion-openai", "openai", Some("OPENAI_API_KEY")),
    ("together_ai", "together", Some("TOGETHERAI_API_KEY")),
    ("vertex_ai", "vertex", Some("VERTEX_SERVICE_ACCOUNT")),
    ("vertex_ai_beta", "vertex", Some("VERTEX_SERVICE_ACCOUNT")),
    ("vllm", "vllm", None),
    ("volcengine", "volcengine", Some("VOLCENGINE_API_KEY")),
    ("voyage", "voyage", Some("VOYAGE_API_KEY")),
    ("wandb", "wandb", Some("WANDB_API_KEY")),
    ("xai", "xai", Some("XAI_API_KEY")),
    ("zai", "zai", Some("ZAI_API_KEY")),
];

/// A vendor as both name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vendor {
    pub(super) provider: &'static str,
    pub(super) variable: Option<&'static str>,
}

/// The vendor of a prefix.
pub(super) fn by_prefix(prefix: &str) -> Option<Vendor> {
    let found = VENDORS.iter().find(|(name, _, _)| *name == prefix);
    found.map(|(_, provider, variable)| Vendor { provider, variable: *variable })
}

/// The vendor of one of our providers.
pub(super) fn by_provider(provider: &str) -> Option<Vendor> {
    // Where two prefixes mean one provider, the one that is called so.
    let named = |name: &&(&str, &str, Option<&str>)| name.1 == provider;
    let found = VENDORS.iter().find(|one| one.0 == provider).filter(named);
    found
        .or_else(|| VENDORS.iter().find(named))
        .map(|(_, provider, variable)| Vendor { provider, variable: *variable })
}

/// How vendors' own models begin, which may stand without a prefix.
const FAMILIES: [(&str, &str); 10] = [
    ("chatgpt-", "openai"),
    ("claude-", "anthropic"),
    ("command-", "cohere"),
    ("dall-e-", "openai"),
    ("ft:gpt-", "openai"),
    ("gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4-", "openai"),
    ("text-embedding-", "openai"),
];

/// The vendor of a model that is named without a prefix.
pub(super) fn by_family(model: &str) -> Option<Vendor> {
    let found = FAMILIES.iter().find(|(begin, _)| model.starts_with(begin));
    found.and_then(|(_, provider)| by_provider(provider))
}
