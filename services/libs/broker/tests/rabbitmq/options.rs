//! What is wrong with the options, or with the broker they lead to, is said in bounded time and without the password.

use std::time::{Duration, Instant};

use lapin::uri::AMQPUri;
use perito_broker::{BrokerOptions, Error, ErrorKind, Publisher};
use perito_domain::retry::ErrorClass;
use tokio::net::TcpListener;

use crate::{harness::url, proxy::mute_server};

const PASSWORD: &str = "hunter2-not-the-password";

async fn refusal(url: &str, namespace: &str) -> Error {
    let mut options = BrokerOptions::new(url, namespace);
    options.connect_timeout = Duration::from_millis(500);
    assert!(!format!("{options:?}").contains(PASSWORD));
    let started = Instant::now();
    let error = Publisher::new(options).ping().await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3), "took {:?}", started.elapsed());
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    error
}

fn altered(alter: impl FnOnce(&mut AMQPUri)) -> String {
    let mut uri: AMQPUri = url().parse().unwrap();
    alter(&mut uri);
    uri.to_string()
}

#[tokio::test]
async fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = refusal(&format!("amqp://perito:{PASSWORD}@127.0.0.1:{port}/%2f"), "test").await;
    assert_eq!((error.kind(), error.class()), (ErrorKind::Unavailable, ErrorClass::Transient));
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn nobody_answers() {
    let address = mute_server().await;
    let error = refusal(&format!("amqp://perito:{PASSWORD}@{address}/%2f"), "test").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no answer within 0.5 s"), "{error}");
}

#[tokio::test]
async fn a_wrong_password() {
    let url = altered(|uri| uri.authority.userinfo.password = PASSWORD.to_owned());
    let error = refusal(&url, "test").await;
    assert_eq!((error.kind(), error.class()), (ErrorKind::Refused, ErrorClass::Permanent), "{error}");
}

#[tokio::test]
async fn a_virtual_host_that_is_not_there() {
    let error = refusal(&altered(|uri| uri.vhost = "elsewhere".to_owned()), "test").await;
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("elsewhere"), "{error}");
}

#[tokio::test]
async fn text_that_is_no_url() {
    for url in [
        format!("http://perito:{PASSWORD}@127.0.0.1/"),
        format!("amqp:perito:{PASSWORD}"),
        format!("amqp://perito:{PASSWORD}@127.0.0.1:port/"),
        String::new(),
    ] {
        let error = refusal(&url, "test").await;
        assert_eq!((error.kind(), error.class()), (ErrorKind::Invalid, ErrorClass::Permanent));
        assert!(error.to_string().contains("amqp://USER:PASSWORD@HOST:PORT/VHOST"), "{error}");
    }
}

#[tokio::test]
async fn a_namespace_that_is_none() {
    let error = refusal(&url(), "a namespace").await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("\"a namespace\""), "{error}");
}
