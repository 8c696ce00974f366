//! What handlers take from a request. Whatever is wrong with it becomes a [`Problem`] that names the field.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use perito_domain::limits::MAX_IDEMPOTENCY_KEY_BYTES;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// A JSON body. Unlike axum's, its refusals name the field apart from the problem with it.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::unsupported_media_type("send the body as Content-Type: application/json"));
        }
        parse(&Bytes::from_request(request, state).await?).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        match (error.classify(), field.as_str()) {
            (serde_json::error::Category::Data, ".") => Problem::invalid(error.to_string()),
            (serde_json::error::Category::Data, _) => Problem::invalid_field(field, error.to_string()),
            _ => Problem::malformed(format!("the body is not JSON: {error}")),
        }
    })?;
    deserializer.end().map_err(|error| Problem::malformed(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// The variable parts of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = <axum::extract::Path<T> as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Self(path.0))
    }
}

/// The query string.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Query(value) = axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// The header that makes a submission safe to repeat (draft-ietf-httpapi-idempotency-key-header).
#[derive(Debug)]
pub(crate) struct IdempotencyKey(pub(crate) String);

impl IdempotencyKey {
    pub(crate) const HEADER: &str = "idempotency-key";
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        let Some(value) = parts.headers.get(Self::HEADER) else { return Ok(None) };
        match value.to_str() {
            Ok(key) if (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()) => Ok(Some(Self(key.to_owned()))),
            _ => Err(Problem::invalid_field("Idempotency-Key", "expected 1 to 128 visible ASCII characters")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::Value;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        size: u32,
    }

    fn refusal(body: &str) -> Value {
        serde_json::to_value(parse::<Outer>(body.as_bytes()).unwrap_err()).unwrap()
    }

    #[test]
    fn refusals_name_the_field() {
        let problem = refusal(r#"{"inner": [{"size": 1}, {"size": -1}]}"#);
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["errors"][0]["field"], "inner[1].size");
        let problem = refusal(r#"{"inner": [{"size": 1, "colour": 2}]}"#);
        assert_eq!(problem["errors"][0]["field"], "inner[0].colour");
        assert!(problem["detail"].as_str().unwrap().contains("unknown field"), "{problem}");
        let problem = refusal("{}");
        assert!(problem["detail"].as_str().unwrap().contains("missing field `inner`"), "{problem}");
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in ["", "{", "{\"inner\": []} and more", "inner=1"] {
            assert_eq!(refusal(body)["status"], 400, "{body:?}");
        }
        assert_eq!(refusal("[1, 2, 3, 4]")["status"], 422);
        assert!(parse::<Outer>(br#" {"inner": []} "#).is_ok());
    }

    #[test]
    fn only_json_is_taken_for_json() {
        let headers = |value: &'static str| HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
        assert!(is_json(&headers("application/json")));
        assert!(is_json(&headers("Application/JSON; charset=utf-8")));
        assert!(!is_json(&headers("text/plain")));
        assert!(!is_json(&HeaderMap::new()));
    }

    async fn key(value: &[u8]) -> Result<Option<IdempotencyKey>, Problem> {
        let request = Request::builder().header("Idempotency-Key", value).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        <IdempotencyKey as OptionalFromRequestParts<()>>::from_request_parts(&mut parts, &()).await
    }

    #[tokio::test]
    async fn idempotency_keys_are_short_and_visible() {
        assert_eq!(key(b"nightly-2026-10-01").await.unwrap().unwrap().0, "nightly-2026-10-01");
        assert!(key(&[b'k'; 128]).await.is_ok());
        for bad in [&b""[..], &[b'k'; 129], b"na\xc3\xafve"] {
            let problem = serde_json::to_value(key(bad).await.unwrap_err()).unwrap();
            assert_eq!(problem["errors"][0]["field"], "Idempotency-Key");
        }
    }
}
