//! The HTTP client of all stores: hyper, over TLS that is always verified.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::{Answer, Reason, find};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request may take, with all that it carries, until it is answered.
const ANSWER: Duration = Duration::from_mins(2);
/// How much of an error's text is read.
const ERROR_LIMIT: usize = 64 << 10;

/// Makes clients that trust an authority.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
}

impl Connector {
    /// `authority`: certificates that alone are trusted; else those of public authorities.
    pub(super) fn new(authority: Option<&str>) -> Result<Self, Reason> {
        let mut roots = rustls::RootCertStore::empty();
        let wrong = |what: String| Reason::Settings { what };
        match authority {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|error| {
                        wrong(format!("the authority's certificates are not PEM: {error}"))
                    })?;
                    roots.add(certificate).map_err(|error| {
                        wrong(format!(
                            "a certificate of the authority cannot be used: {error}"
                        ))
                    })?;
                }
                if roots.is_empty() {
                    return Err(wrong(
                        "the authority's file holds no certificate".to_owned(),
                    ));
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
        })
    }

    /// A client.
    pub(super) fn client(&self) -> HttpClient {
        HttpClient::new(self.clone())
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client())
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request: Request<HttpRequestBody> = request;
        let answer = tokio::time::timeout(ANSWER, self.client.request(request));
        let response = match answer.await {
            Err(late) => return Err(HttpError::new(HttpErrorKind::Timeout, late)),
            Ok(Err(error)) => return Err(HttpError::new(kind(&error), error)),
            Ok(Ok(response)) => response,
        };
        if is_ours(response.status()) {
            return refusal(response).await;
        }
        let (parts, body) = response.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// Answers that say why. What `object_store` reads a meaning from (no such object, there is one already,
/// not modified) is left to it.
fn is_ours(status: StatusCode) -> bool {
    let refused = matches!(
        status.as_u16(),
        301 | 302 | 303 | 307 | 308 | 400 | 401 | 403 | 404
    );
    refused || status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Whether the same request may be answered otherwise a moment later.
fn passes(status: StatusCode) -> bool {
    let lasting = [
        StatusCode::NOT_IMPLEMENTED,
        StatusCode::INSUFFICIENT_STORAGE,
    ];
    status == StatusCode::TOO_MANY_REQUESTS
        || (status.is_server_error() && !lasting.contains(&status))
}

/// Makes an error of an answer, or gives it on where `object_store` is to read it.
async fn refusal(response: http::Response<Incoming>) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let text = Limited::new(body, ERROR_LIMIT)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let text = text.unwrap_or_default();
    let told = Told::read(&String::from_utf8_lossy(&text));
    // A missing object has no more to say.
    if parts.status == StatusCode::NOT_FOUND && told.is_of_the_object() {
        let body = http_body_util::Full::new(text).map_err(|never| match never {});
        return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
    }
    let text_of = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    let date =
        text_of(header::DATE.as_str()).and_then(|text| jiff::fmt::rfc2822::parse(&text).ok());
    let answer = Answer {
        status: parts.status,
        code: told.code,
        message: told.message,
        region: text_of("x-amz-bucket-region").or(told.region),
        skew: date.map(|date| Timestamp::now().duration_since(date.timestamp())),
    };
    // The first is tried again, the other is not.
    let kind = if passes(parts.status) {
        HttpErrorKind::Request
    } else {
        HttpErrorKind::Unknown
    };
    Err(HttpError::new(kind, answer))
}

/// What an error's body says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    code: String,
    message: String,
    region: Option<String>,
}

impl Told {
    /// Reads the XML of S3 and Azure, or the JSON of Google.
    fn read(text: &str) -> Self {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Xml {
            code: Option<String>,
            message: Option<String>,
            region: Option<String>,
        }
        if let Ok(xml) = quick_xml::de::from_str::<Xml>(text.trim_start_matches('\u{feff}')) {
            return Self {
                code: xml.code.unwrap_or_default(),
                message: xml.message.unwrap_or_default(),
                region: xml.region,
            };
        }
        let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let error = &json["error"];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            code: text(&error["errors"][0]["reason"]),
            message: text(&error["message"]),
            region: None,
        }
    }

    /// Whether it is only the object, or the setting, that is missing. Answers to HEAD have no words.
    fn is_of_the_object(&self) -> bool {
        let code = self.code.as_str();
        matches!(
            code,
            "" | "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" | "BlobNotFound" | "notFound"
        ) || code.ends_with("NotFoundError")
    }
}

/// Whether and how it may be tried again.
fn kind(error: &hyper_util::client::legacy::Error) -> HttpErrorKind {
    if find::<rustls::Error>(error).is_some() {
        // A certificate does not become valid by asking again.
        return HttpErrorKind::Unknown;
    }
    if error.is_connect() {
        return HttpErrorKind::Connect;
    }
    match find::<hyper::Error>(error) {
        Some(error) if error.is_timeout() => HttpErrorKind::Timeout,
        Some(error) if error.is_closed() || error.is_incomplete_message() => HttpErrorKind::Request,
        _ => HttpErrorKind::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_three_stores_are_read() {
        let s3 = r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>PermanentRedirect</Code>
            <Message>elsewhere</Message><Region>eu-north-1</Region><RequestId>1</RequestId></Error>"#;
        assert_eq!(
            Told::read(s3),
            Told {
                code: "PermanentRedirect".into(),
                message: "elsewhere".into(),
                region: Some("eu-north-1".into()),
            }
        );
        let azure = "\u{feff}<?xml version=\"1.0\"?><Error><Code>ContainerNotFound</Code><Message>none</Message></Error>";
        assert_eq!(Told::read(azure).code, "ContainerNotFound");
        assert!(!Told::read(azure).is_of_the_object() && Told::default().is_of_the_object());
        let google = r#"{"error":{"code":403,"message":"no","errors":[{"reason":"forbidden"}]}}"#;
        assert_eq!(Told::read(google).code, "forbidden");
        assert_eq!(Told::read("<html>"), Told::default());
    }

    #[test]
    fn authorities_are_checked() {
        let of = |text: &str| Connector::new(Some(text)).unwrap_err().to_string();
        assert_eq!(of(""), "the authority's file holds no certificate");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(of(broken).contains("cannot be used"), "{}", of(broken));
        assert!(Connector::new(None).is_ok());
    }
}
