//! What a person sees, from made-up findings.
