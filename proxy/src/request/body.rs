//! Bodies within their bounds, and the headers a request is allowed to bring.
//!
//! A body has one media type, a bound in bytes and one in time; the announced length alone is enough to
//! refuse it. A header that the caller relies on is refused if it is not sane, one that merely helps
//! (`x-request-id`) is replaced.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use chancery_format::names::IdempotencyKey;
use chancery_format::{Hash, RequestId};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};

use super::RequestError;

/// Reads a JSON body within its bounds.
pub async fn read_json<B>(
    headers: &HeaderMap,
    body: B,
    bytes_max: usize,
    deadline: Duration,
) -> Result<Bytes, RequestError>
where
    B: Body<Data = Bytes>,
{
    check_media_type(headers)?;
    read_any(headers, body, bytes_max, deadline).await
}

/// The same for languages whose clients name their JSON otherwise, or not at all. A content coding is refused.
pub async fn read_any<B>(
    headers: &HeaderMap,
    body: B,
    bytes_max: usize,
    deadline: Duration,
) -> Result<Bytes, RequestError>
where
    B: Body<Data = Bytes>,
{
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(RequestError::MediaType);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(RequestError::BodyTooLarge { bytes_max });
    }
    match tokio::time::timeout(deadline, collect(body, bytes_max)).await {
        Ok(read) => read,
        Err(_) => Err(RequestError::BodyTimeout { after: deadline }),
    }
}

/// The one-frame body, which is nearly every body, is handed on without copying.
async fn collect<B: Body<Data = Bytes>>(body: B, bytes_max: usize) -> Result<Bytes, RequestError> {
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| RequestError::BodyIncomplete)?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > bytes_max {
            return Err(RequestError::BodyTooLarge { bytes_max });
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let whole = first.len() + rest.len();
    Ok(first.chain(rest).copy_to_bytes(whole))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), RequestError> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(RequestError::MediaType) };
    let text = value.to_str().map_err(|_| RequestError::MediaType)?;
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    let parameters = parameters.trim();
    let utf8 =
        ["", "charset=utf-8", "charset=\"utf-8\""].iter().any(|ok| parameters.eq_ignore_ascii_case(ok));
    let json = kind.trim().eq_ignore_ascii_case("application/json");
    if json && utf8 { Ok(()) } else { Err(RequestError::MediaType) }
}

/// The caller's `x-request-id`, if it sent exactly one that is safe in logs and leaves.
pub fn request_id(headers: &HeaderMap) -> Option<RequestId> {
    let mut values = headers.get_all("x-request-id").iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok()?.parse().ok(),
        _ => None,
    }
}

/// The caller's `Idempotency-Key`. A bad one is refused: the caller relies on it.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, RequestError> {
    let refuse = |rule: &str| RequestError::Parameter { name: "Idempotency-Key", rule: rule.to_owned() };
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refuse("must be sent once"));
    }
    let text = value.to_str().map_err(|_| refuse("must be printable ASCII"))?;
    text.parse().map(Some).map_err(|error: chancery_format::names::NameError| refuse(&error.to_string()))
}

/// The local user behind an agent, as the agent says: `chancery-peer-uid`. One that is no number is refused.
pub fn peer_uid(headers: &HeaderMap) -> Result<Option<u32>, RequestError> {
    let Some(value) = headers.get("chancery-peer-uid") else { return Ok(None) };
    let uid =
        value.to_str().ok().and_then(|text| text.parse::<u32>().ok().filter(|uid| uid.to_string() == text));
    let rule = || "must be a decimal user id".to_owned();
    uid.map(Some).ok_or_else(|| RequestError::Parameter { name: "chancery-peer-uid", rule: rule() })
}

/// The key under which one item of a batch is retried: derived from the batch's, and unlike any key a
/// caller would choose.
pub fn item_key(batch: &IdempotencyKey, position: usize) -> Option<IdempotencyKey> {
    let position = position.to_string();
    let hash = Hash::of(&[b"chancery/batch-item\0", batch.as_str().as_bytes(), b"\0", position.as_bytes()]);
    format!("batch-item-{hash}").parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use http_body_util::Full;
    use hyper::body::Frame;

    use super::*;

    fn json_headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        headers
    }

    #[test]
    fn item_keys_differ_by_batch_and_position() {
        let a: IdempotencyKey = "a".parse().unwrap();
        assert_eq!(item_key(&a, 0), item_key(&a, 0));
        assert_ne!(item_key(&a, 0), item_key(&a, 1));
        assert_ne!(item_key(&a, 0), item_key(&"b".parse().unwrap(), 0));
    }

    #[test]
    fn media_types_are_strict() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            check_media_type(&headers).is_ok()
        };
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=utf-8"]
        {
            assert!(check(good), "{good}");
        }
        for bad in
            ["text/json", "application/json; charset=latin1", "application/jsonx", "application/json;a=b", ""]
        {
            assert!(!check(bad), "{bad}");
        }
        assert!(check_media_type(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn a_content_coding_is_refused() {
        let mut coded = json_headers();
        coded.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        let body = http_body_util::Full::new(Bytes::from_static(b"{}"));
        let read = read_json(&coded, body, 10, Duration::from_secs(1)).await;
        assert!(matches!(read, Err(RequestError::MediaType)));
    }

    #[test]
    fn headers_are_taken_once_and_only_if_sane() {
        let mut headers = HeaderMap::new();
        assert_eq!(idempotency_key(&headers).unwrap(), None);
        headers.insert("idempotency-key", "k 1".parse().unwrap());
        assert!(idempotency_key(&headers).is_err());
        headers.insert("idempotency-key", "k-1".parse().unwrap());
        assert_eq!(idempotency_key(&headers).unwrap().unwrap().as_str(), "k-1");
        headers.append("idempotency-key", "k-1".parse().unwrap());
        assert!(idempotency_key(&headers).is_err());
        headers.insert("x-request-id", "a b".parse().unwrap());
        assert_eq!(request_id(&headers), None);
        headers.insert("x-request-id", "r-1".parse().unwrap());
        assert_eq!(request_id(&headers).unwrap().as_str(), "r-1");
    }

    /// A body that arrives in these pieces.
    struct Pieces(std::collections::VecDeque<&'static str>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let piece = self.0.pop_front();
            std::task::Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
        }
    }

    fn frames<const N: usize>(pieces: [&'static str; N]) -> Pieces {
        Pieces(pieces.into())
    }

    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }
    }

    #[tokio::test]
    async fn bodies_are_bounded_in_bytes_and_time() {
        let second = Duration::from_secs(1);
        let whole = read_json(&json_headers(), frames(["{\"a\"", "", ":1}"]), 7, second).await.unwrap();
        assert_eq!(&*whole, b"{\"a\":1}");
        let over = read_json(&json_headers(), frames(["{\"a\"", ":12}"]), 7, second).await.unwrap_err();
        assert_eq!(over, RequestError::BodyTooLarge { bytes_max: 7 });
        let mut headers = json_headers();
        headers.insert(CONTENT_LENGTH, "8".parse().unwrap());
        // The announcement alone is enough: the body is never polled.
        let announced = read_json(&headers, Never, 7, second).await.unwrap_err();
        assert_eq!(announced, RequestError::BodyTooLarge { bytes_max: 7 });
        let after = Duration::from_millis(5);
        let slow = read_json(&json_headers(), Never, 7, after).await.unwrap_err();
        assert_eq!(slow, RequestError::BodyTimeout { after });
        let one = read_json(&json_headers(), Full::new(Bytes::from_static(b"{}")), 7, second).await.unwrap();
        assert_eq!(&*one, b"{}");
    }
}
