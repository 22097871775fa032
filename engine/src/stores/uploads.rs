//! The multipart uploads that a bucket has under one name: what a process that died may have begun.
//!
//! `object_store` cannot list uploads; its signing and its HTTP client do the work here.
//! [ListMultipartUploads](https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html)

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector};
use object_store::path::Path;
use serde::Deserialize;
use tereza_runtime::settings::S3Connection;
use tereza_runtime::{Error, Result};
use url::Url;

/// Asks one bucket.
pub(super) struct Uploads {
    /// The bucket's own URL.
    url: Url,
    region: String,
    /// None where requests are not signed.
    credential: Option<Arc<AwsCredential>>,
    client: HttpClient,
}

/// The answer; names that are not needed are left out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Listing {
    upload: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
}

impl Uploads {
    pub(super) fn new(bucket: &str, settings: &S3Connection, options: &ClientOptions) -> Result<Self> {
        let S3Connection { endpoint, region, path_style, .. } = settings;
        let url = match (endpoint.trim_end_matches('/'), path_style) {
            ("", true) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
            ("", false) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
            (endpoint, true) => format!("{endpoint}/{bucket}"),
            (endpoint, false) => endpoint.to_owned(),
        };
        let url = Url::parse(&url)
            .map_err(|error| Error::invalid_input(format!("bucket '{bucket}': endpoint '{url}': {error}")))?;
        let credential = (!settings.access_key.is_empty()).then(|| {
            Arc::new(AwsCredential {
                key_id: settings.access_key.expose().to_owned(),
                secret_key: settings.secret_key.expose().to_owned(),
                token: (!settings.session_token.is_empty()).then(|| settings.session_token.expose().to_owned()),
            })
        });
        let client = ReqwestConnector::default()
            .connect(options)
            .map_err(|error| Error::internal(format!("no HTTP client for bucket '{bucket}'")).with_source(error))?;
        Ok(Self { url, region: region.clone(), credential, client })
    }

    /// Makes or removes the object of no size whose name is `path` and a slash, which `object_store` has no name for.
    /// Without a key nothing is written.
    pub(super) async fn folder(&self, method: Method, path: &Path) -> Result<()> {
        if self.credential.is_none() {
            return Ok(());
        }
        let url = format!("{}/{}/", self.url.as_str().trim_end_matches('/'), encoded(path));
        let failed = |what: &str| format!("folder '{path}/' in '{}': {what}", self.url);
        let is_made = method == Method::PUT;
        match self.ask(method, url, &failed).await? {
            None if is_made => Err(Error::not_found(failed("there is no such bucket"))),
            _ => Ok(()),
        }
    }

    /// The answer to a request without a body; none if there is nothing.
    async fn ask(&self, method: Method, url: String, failed: &impl Fn(&str) -> String) -> Result<Option<Bytes>> {
        let request =
            Request::builder().method(method).uri(url).header(CONTENT_LENGTH, 0).body(HttpRequestBody::empty());
        let mut request = request.map_err(|error| Error::internal(failed(&error.to_string())))?;
        if let Some(credential) = &self.credential {
            AwsAuthorizer::new(credential, "s3", &self.region).authorize(&mut request, None);
        }
        let unreachable = |error: object_store::client::HttpError| Error::unavailable(failed(&error.to_string()));
        let response = self.client.execute(request).await.map_err(unreachable)?;
        let status = response.status();
        let body = response.into_body().bytes().await.map_err(unreachable)?;
        match status.as_u16() {
            200..=299 => Ok(Some(body)),
            404 => Ok(None),
            401 | 403 => Err(Error::denied(failed(&status.to_string()))),
            _ => Err(Error::unavailable(failed(&status.to_string()))),
        }
    }

    /// Ids of the uploads, neither completed nor aborted, of the object at `path`.
    pub(super) async fn of(&self, path: &Path) -> Result<Vec<String>> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("prefix", path.as_ref()).append_pair("uploads", "");
        // As the signature wants it: a space is `%20`.
        let url = url.as_str().replace('+', "%20");
        let failed = |what: &str| format!("uploads of '{path}' in '{}': {what}", self.url);
        // A bucket that is gone has none.
        let Some(body) = self.ask(Method::GET, url, &failed).await? else { return Ok(Vec::new()) };
        let listing = parse(&body).map_err(|error| Error::unavailable(failed(&error)))?;
        Ok(listing.upload.into_iter().filter(|upload| upload.key == path.as_ref()).map(|one| one.upload_id).collect())
    }
}

/// A path as the signature wants it in a URL: all but letters, digits and `-._~/` as `%2F`.
fn encoded(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_ref().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn parse(body: &[u8]) -> std::result::Result<Listing, String> {
    quick_xml::de::from_reader(body).map_err(|error| format!("the answer is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_the_signature() {
        let path = Path::parse("w/t/ds=a b%3Aü").expect("is a path");
        assert_eq!(encoded(&path), "w/t/ds%3Da%20b%253A%C3%BC");
    }

    #[test]
    fn a_listing_is_read() {
        let listing = parse(
            br#"<?xml version="1.0" encoding="UTF-8"?>
<ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>b</Bucket><KeyMarker></KeyMarker>
<Prefix>t/a&amp;b</Prefix><MaxUploads>1000</MaxUploads><IsTruncated>false</IsTruncated>
<Upload><Key>t/a&amp;b</Key><UploadId>u1</UploadId><Initiator><ID></ID></Initiator></Upload>
<Upload><Key>t/a&amp;b2</Key><UploadId>u2</UploadId></Upload></ListMultipartUploadsResult>"#,
        );
        let uploads = listing.expect("is XML").upload;
        let found: Vec<(&str, &str)> = uploads.iter().map(|one| (one.key.as_str(), one.upload_id.as_str())).collect();
        assert_eq!(found, [("t/a&b", "u1"), ("t/a&b2", "u2")]);
        assert!(parse(b"<ListMultipartUploadsResult></ListMultipartUploadsResult>").expect("is XML").upload.is_empty());
        assert!(parse(b"<html>").is_err());
    }
}
