//! Which common labels are exported, and the projection of a request onto them.

use super::names::{CommonLabel, OTHER, SECURITY_POLICIES, UNKNOWN_CODE};
use crate::model::{Canonical, Protocol, RequestLabels, Workload};
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// The common labels that are exported; a label left out does not appear at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct LabelSet(u16);

/// A label name that does not exist.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no label `{name}`; the labels are {}", LabelSet::all().names().join(", "))]
pub struct UnknownLabel {
    name: String,
}

impl LabelSet {
    /// Every common label.
    #[must_use]
    pub fn all() -> Self {
        Self::of(CommonLabel::ALL)
    }

    /// The labels that are exported when nothing is said: all but the canonical ones, which multiply
    /// the label sets by the versions that run side by side.
    #[must_use]
    pub fn usual() -> Self {
        Self::of(
            CommonLabel::ALL
                .into_iter()
                .filter(|label| !label.is_canonical()),
        )
    }

    /// Whether versions of a workload are told apart.
    pub(super) fn tells_revisions(self) -> bool {
        self.iter().any(CommonLabel::is_canonical)
    }

    /// Only these labels.
    #[must_use]
    pub fn of(labels: impl IntoIterator<Item = CommonLabel>) -> Self {
        Self(labels.into_iter().fold(0, |set, label| set | bit(label)))
    }

    /// Whether the label is exported.
    #[must_use]
    pub fn contains(self, label: CommonLabel) -> bool {
        self.0 & bit(label) != 0
    }

    /// The exported labels in the order of exposition.
    pub fn iter(self) -> impl Iterator<Item = CommonLabel> {
        CommonLabel::ALL
            .into_iter()
            .filter(move |&label| self.contains(label))
    }

    /// Names of the exported labels.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(CommonLabel::as_str).collect()
    }

    fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownLabel> {
        names
            .into_iter()
            .map(|name| {
                CommonLabel::ALL
                    .into_iter()
                    .find(|label| label.as_str() == name)
                    .ok_or_else(|| UnknownLabel {
                        name: name.to_owned(),
                    })
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Self::of)
    }
}

/// Place of a label in the set.
fn bit(label: CommonLabel) -> u16 {
    1 << label as u8
}

impl FromStr for LabelSet {
    type Err = UnknownLabel;

    /// Reads names separated by commas; the empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_names(
            text.split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty()),
        )
    }
}

impl TryFrom<Vec<String>> for LabelSet {
    type Error = UnknownLabel;

    fn try_from(names: Vec<String>) -> Result<Self, Self::Error> {
        Self::from_names(names.iter().map(String::as_str))
    }
}

impl From<LabelSet> for Vec<String> {
    fn from(set: LabelSet) -> Self {
        set.names().into_iter().map(str::to_owned).collect()
    }
}

/// How `response_code` is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ResponseCode {
    /// `2xx`, `4xx`: five values at most.
    #[default]
    Class,
    /// `200`, `404`: as many series more as there are codes.
    Exact,
}

/// What two requests must share to be counted in the same series.
///
/// It borrows a request's labels, so that finding the series of a request copies no text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection<'a> {
    set: LabelSet,
    shown: ResponseCode,
    labels: &'a RequestLabels,
    /// Code as shown: 200 stands for the class 2xx where classes are shown.
    code: u16,
}

impl<'a> Projection<'a> {
    pub(super) fn new(set: LabelSet, shown: ResponseCode, labels: &'a RequestLabels) -> Self {
        let code = match (labels.response_code, shown) {
            (code @ 100..=599, ResponseCode::Exact) => code,
            (code @ 100..=599, ResponseCode::Class) => code / 100 * 100,
            _ => 0,
        };
        Self {
            set,
            shown,
            labels,
            code,
        }
    }

    /// The values of the exported labels that text comparison is needed for.
    fn texts(&self) -> [(CommonLabel, &'a str); 9] {
        let labels = self.labels;
        [
            (CommonLabel::SourceWorkload, &*labels.source.name),
            (
                CommonLabel::SourceWorkloadNamespace,
                &*labels.source.namespace,
            ),
            (CommonLabel::DestinationWorkload, &*labels.destination.name),
            (
                CommonLabel::DestinationWorkloadNamespace,
                &*labels.destination.namespace,
            ),
            (CommonLabel::DestinationServiceName, &*labels.service),
            (CommonLabel::SourceCanonicalService, labels.source.service()),
            (
                CommonLabel::SourceCanonicalRevision,
                labels.source.revision(),
            ),
            (
                CommonLabel::DestinationCanonicalService,
                labels.destination.service(),
            ),
            (
                CommonLabel::DestinationCanonicalRevision,
                labels.destination.revision(),
            ),
        ]
    }

    /// The bounded labels as one number; what is not exported is 0.
    fn small(&self) -> (u16, Option<Protocol>, bool) {
        let set = self.set;
        (
            if set.contains(CommonLabel::ResponseCode) {
                self.code
            } else {
                0
            },
            set.contains(CommonLabel::RequestProtocol)
                .then_some(self.labels.protocol),
            set.contains(CommonLabel::ConnectionSecurityPolicy) && self.labels.mutual_tls,
        )
    }

    /// The labels behind the projection.
    pub(super) const fn labels(&self) -> &'a RequestLabels {
        self.labels
    }

    /// Other labels seen the same way.
    pub(super) fn of<'b>(&self, labels: &'b RequestLabels) -> Projection<'b> {
        Projection::new(self.set, self.shown, labels)
    }

    /// Whether requests with these labels fall into the same series.
    pub(super) fn matches(&self, labels: &RequestLabels) -> bool {
        let other = self.of(labels);
        self.small() == other.small()
            && self
                .texts()
                .iter()
                .zip(other.texts())
                .all(|(mine, theirs)| !self.set.contains(mine.0) || mine.1 == theirs.1)
    }

    /// The same request with its workloads hidden.
    pub(super) fn overflow_labels(&self) -> RequestLabels {
        let canonical = Canonical {
            service: OTHER.into(),
            revision: OTHER.into(),
        };
        let other = Workload {
            canonical: Some(Arc::new(canonical)),
            ..Workload::new(OTHER.into(), OTHER.into())
        };
        RequestLabels {
            source: other.clone(),
            destination: other,
            service: OTHER.into(),
            response_code: self.code,
            ..self.labels.clone()
        }
    }

    /// Values in the order of `LabelSet::names`.
    pub(super) fn values(&self) -> Vec<String> {
        self.set.iter().map(|label| self.value(label)).collect()
    }

    fn value(&self, label: CommonLabel) -> String {
        let labels = self.labels;
        match label {
            CommonLabel::SourceWorkload => labels.source.name.to_string(),
            CommonLabel::SourceWorkloadNamespace => labels.source.namespace.to_string(),
            CommonLabel::DestinationWorkload => labels.destination.name.to_string(),
            CommonLabel::DestinationWorkloadNamespace => labels.destination.namespace.to_string(),
            CommonLabel::DestinationServiceName => labels.service.to_string(),
            CommonLabel::SourceCanonicalService => labels.source.service().to_owned(),
            CommonLabel::SourceCanonicalRevision => labels.source.revision().to_owned(),
            CommonLabel::DestinationCanonicalService => labels.destination.service().to_owned(),
            CommonLabel::DestinationCanonicalRevision => labels.destination.revision().to_owned(),
            CommonLabel::RequestProtocol => labels.protocol.as_str().to_owned(),
            CommonLabel::ResponseCode => match (self.code, self.shown) {
                (0, _) => UNKNOWN_CODE.to_owned(),
                (code, ResponseCode::Class) => format!("{}xx", code / 100),
                (code, ResponseCode::Exact) => code.to_string(),
            },
            CommonLabel::ConnectionSecurityPolicy => {
                let [none, mutual_tls] = SECURITY_POLICIES;
                if labels.mutual_tls { mutual_tls } else { none }.to_owned()
            }
        }
    }
}

impl Hash for Projection<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.small().hash(state);
        for (label, text) in self.texts() {
            if self.set.contains(label) {
                text.hash(state);
            }
        }
    }
}
