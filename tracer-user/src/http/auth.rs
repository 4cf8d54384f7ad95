//! Who may scrape: anybody, who knows a password, or whom the Kubernetes API knows and allows.

use super::HttpError;
use crate::lock::lock;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// How long what the API said of a token holds: a scrape is no reason to ask each time.
const ANSWER_HOLDS: Duration = Duration::from_secs(60);
/// Tokens whose answer is remembered.
const MAX_ANSWERS: usize = 256;
/// How long the API may take for its answer.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What is answered to who does not say who they are (RFC 7617, RFC 6750).
const BASIC: &str = "Basic realm=\"hoptrace\", charset=\"UTF-8\"";
const BEARER: &str = "Bearer realm=\"hoptrace\"";

/// The guard of `/metrics`.
pub enum Auth {
    /// Anybody may.
    Nobody,
    /// Who knows a line of the file, `user:password`.
    Basic(PathBuf),
    /// Whom the API knows by token (TokenReview), and allows to get `/metrics`
    /// (SubjectAccessReview).
    Token(Box<Reviews>),
}

/// What the API said.
pub struct Reviews {
    client: Client,
    answers: Mutex<HashMap<String, (Instant, Verdict)>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Allowed,
    /// Who asks is not known: 401, and how to become known.
    Unknown(&'static str),
    /// Who asks is known and may not: 403.
    Refused,
    /// It cannot be told: 503.
    Unclear,
}

impl Auth {
    /// A guard by the lines of a file, which is read at each request.
    ///
    /// # Errors
    /// When it cannot be read or has a line that is not `user:password`.
    pub fn basic(file: &Path) -> Result<Self, HttpError> {
        passwords(file)?;
        Ok(Self::Basic(file.into()))
    }

    /// A guard by the API.
    #[must_use]
    pub fn token(client: Client) -> Self {
        let answers = Mutex::new(HashMap::new());
        Self::Token(Box::new(Reviews { client, answers }))
    }

    pub(super) async fn judge(&self, headers: &HeaderMap) -> Verdict {
        let given = |scheme: &str| {
            let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
            let (found, rest) = text.split_once(' ')?;
            found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
        };
        match self {
            Self::Nobody => Verdict::Allowed,
            Self::Basic(file) => {
                let Some(given) = given("Basic") else {
                    return Verdict::Unknown(BASIC);
                };
                match passwords(file) {
                    Ok(known) if knows(&known, given) => Verdict::Allowed,
                    Ok(_) => Verdict::Unknown(BASIC),
                    Err(error) => {
                        tracing::warn!(%error, "nobody can be let in");
                        Verdict::Unclear
                    }
                }
            }
            Self::Token(reviews) => match given("Bearer") {
                Some(token) => reviews.judge(token).await,
                None => Verdict::Unknown(BEARER),
            },
        }
    }
}

/// Looks at every line whatever comes, so that time tells nothing.
fn knows(known: &[String], given: &str) -> bool {
    let found = known.iter().fold(0, |found, line| {
        found | line.as_bytes().ct_eq(given.as_bytes()).unwrap_u8()
    });
    found == 1
}

/// The lines of the file as they stand in a header.
fn passwords(file: &Path) -> Result<Vec<String>, HttpError> {
    let text = fs::read_to_string(file).map_err(|source| HttpError::Passwords {
        file: file.into(),
        source,
    })?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let lines = lines.map(|(number, line)| match line.split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => {
            Ok(STANDARD.encode(line))
        }
        _ => Err(HttpError::Password {
            file: file.into(),
            line: number + 1,
        }),
    });
    lines.collect()
}

impl Reviews {
    async fn judge(&self, token: &str) -> Verdict {
        let known = {
            let answers = lock(&self.answers);
            let known = answers.get(token).copied();
            known.filter(|(asked, _)| asked.elapsed() < ANSWER_HOLDS)
        };
        if let Some((_, verdict)) = known {
            return verdict;
        }
        let error = match tokio::time::timeout(ASK_LIMIT, self.ask(token)).await {
            Ok(Ok(verdict)) => {
                self.remember(token, verdict);
                return verdict;
            }
            // Its words for people; the rest says the same again.
            Ok(Err(kube::Error::Api(refusal))) => refusal.message,
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("no answer within {ASK_LIMIT:?}"),
        };
        tracing::warn!(
            %error,
            "the API does not tell who scrapes; the agent needs `create` on tokenreviews and \
             subjectaccessreviews (ClusterRole system:auth-delegator)"
        );
        Verdict::Unclear
    }

    fn remember(&self, token: &str, verdict: Verdict) {
        let mut answers = lock(&self.answers);
        if answers.len() >= MAX_ANSWERS {
            answers.clear();
        }
        answers.insert(token.to_owned(), (Instant::now(), verdict));
    }

    async fn ask(&self, token: &str) -> Result<Verdict, kube::Error> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let status = answer.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(Verdict::Unknown(BEARER));
        }
        self.may(status.user.unwrap_or_default()).await
    }

    async fn may(&self, user: UserInfo) -> Result<Verdict, kube::Error> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some("/metrics".to_owned()),
                    verb: Some("get".to_owned()),
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        Ok(if allowed {
            Verdict::Allowed
        } else {
            Verdict::Refused
        })
    }
}
