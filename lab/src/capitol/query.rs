//! Numbers in a query string.

use super::ApiError;

/// Reads `name=<number>` from a query string, if it is there.
///
/// Only digits have a meaning to this service, so nothing is percent-decoded and nothing is
/// allocated; names nobody asks for are passed over.
pub(super) fn number(query: Option<&str>, name: &str) -> Result<Option<u32>, ApiError> {
    let found = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name);
    found.map(|(_, value)| parse(name, value)).transpose()
}

/// Reads a whole number, or says what `name` has to be.
pub(super) fn parse(name: &str, value: &str) -> Result<u32, ApiError> {
    value
        .parse()
        .map_err(|_| ApiError::BadRequest(format!("{name} has to be a whole number")))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_found() {
        let cases = [
            (None, Ok(None)),
            (Some(""), Ok(None)),
            (Some("limit"), Ok(None)),
            (Some("limit=7"), Ok(Some(7))),
            (Some("a=b&limit=7&limit=8"), Ok(Some(7))),
            (Some("unlimit=7"), Ok(None)),
            (Some("limit="), Err(())),
            (Some("limit=-1"), Err(())),
            (Some("limit=4294967296"), Err(())),
        ];
        for (query, expected) in cases {
            assert_eq!(
                number(query, "limit").map_err(|_| ()),
                expected,
                "{query:?}"
            );
        }
    }
}
