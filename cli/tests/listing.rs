//! Long lists as the client reads them: whole as they arrive, and in pages where only some are wanted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;

use fake::{Answer, Fake, data, json};
use futures_util::{StreamExt as _, TryStreamExt as _};
use knit_api::client::{Client, ClientError, DataQuery, Listing, RunQuery};
use knit_api::profile::Profile;
use knit_api::tag::Tag;
use serde_json::{Value, json as value};

/// A client, with the server's words.
fn client(server: &Fake) -> Client {
    let profile: Profile = serde_json::from_value(value!({"apiRoot": server.api_root(), "cert": {}})).unwrap();
    Client::new(&profile).unwrap()
}

/// A page and, perhaps, what leads to the next.
fn page(items: &Value, next: Option<&str>) -> Answer {
    let (body, next) = (items.to_string(), next.map_or(String::new(), |next| format!("knit-next: {next}\r\n")));
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{next}Content-Length: {length}\r\n\r\n");
    Answer::Bytes([head.into_bytes(), body.into_bytes()].concat())
}

/// A server with three pages of two Data.
fn with_pages() -> Fake {
    Fake::start(|request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["pages"]})),
        target if target.contains("after=c2") => page(&value!([data("5")]), None),
        target if target.contains("after=c1") => page(&value!([data("3"), data("4")]), Some("c2")),
        _ => page(&value!([data("1"), data("2")]), Some("c1")),
    })
}

/// A server that says less of itself than nothing.
fn original() -> Fake {
    Fake::start(|request| {
        if request.target == "/api/server" {
            return json(404, &value!({"message": "Not Found"}));
        }
        let mut failed = data("2");
        failed["tags"].as_array_mut().unwrap().push(value!("knit#transient:failed"));
        page(&value!([data("1"), failed, data("3")]), None)
    })
}

#[tokio::main(flavor = "current_thread")]
async fn listed(server: &Fake, query: DataQuery, listing: Listing) -> Result<Vec<Vec<String>>, ClientError> {
    let pages = client(server).list_data(query, listing);
    pages.map_ok(|page| page.into_iter().map(|data| data.id.to_string()).collect()).try_collect().await
}

fn targets(server: &Fake) -> Vec<String> {
    server.requests().into_iter().map(|request| request.target).collect()
}

#[test]
fn pages_are_read_until_none_follows() {
    let server = with_pages();
    let query = DataQuery { tags: vec![Tag::new("a", "b")], transient: Some(false), ..DataQuery::default() };
    let pages = listed(&server, query, Listing { reverse: true, limit: Some(600) }).unwrap();
    assert_eq!(pages, [vec!["1", "2"], vec!["3", "4"], vec!["5"]]);
    let asked = "/api/data?tag=a%3Ab&transient=false";
    let expected = [(500, ""), (500, "&after=c1"), (500, "&after=c2")];
    assert_eq!(targets(&server), expected.map(|(limit, after)| format!("{asked}&limit={limit}{after}&reverse=")));
}

/// A server that sends this as a list, in pieces of so many bytes.
fn in_pieces(body: String, size: usize, ends: bool) -> Fake {
    Fake::start(move |request| {
        if request.target == "/api/server" {
            return json(200, &value!({"version": "0.1.0", "capabilities": ["pages"]}));
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut bytes = head.as_bytes().to_vec();
        for piece in body.as_bytes().chunks(size) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        if !ends {
            return Answer::Close(bytes);
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        Answer::Bytes(bytes)
    })
}

#[test]
fn without_a_limit_one_request_brings_all_of_one_moment() {
    let all: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    let body = serde_json::to_string_pretty(&all.iter().map(|id| data(id)).collect::<Vec<_>>()).unwrap();
    for size in [7, 1000, 1 << 20] {
        let server = in_pieces(body.clone(), size, true);
        let query = DataQuery { transient: Some(false), ..DataQuery::default() };
        let found = listed(&server, query, Listing { reverse: true, limit: None }).unwrap();
        assert!(found.concat() == all, "{size}");
        assert_eq!(targets(&server), ["/api/data?transient=false&reverse="]);
    }
    let server = in_pieces(body.clone(), 1000, true);
    let found = listed(&server, DataQuery::default(), Listing { reverse: false, limit: Some(10_000) }).unwrap();
    assert!(found.concat() == all);
    assert_eq!(targets(&server), ["/api/data"], "no page holds so many");
}

#[test]
fn a_whole_list_that_does_not_come_to_its_end_is_not_taken_for_one() {
    let body = value!([data("1"), data("2")]).to_string();
    let cut = body[..body.len() - 1].to_owned();
    for (body, ends) in [(body.clone(), false), (cut.clone(), true), (cut, false), (format!("{body}x"), true)] {
        let server = in_pieces(body.clone(), 100, ends);
        assert!(listed(&server, DataQuery::default(), Listing::default()).is_err(), "{body}");
    }
    let server = in_pieces("[]".to_owned(), 1, true);
    assert!(listed(&server, DataQuery::default(), Listing::default()).unwrap().is_empty());
}

#[test]
fn no_more_is_asked_for_than_is_wanted() {
    for (limit, pages, requests) in [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 2, 2), (4, 2, 2), (5, 3, 3), (6, 3, 3)] {
        let server = with_pages();
        let found = listed(&server, DataQuery::default(), Listing { reverse: false, limit: Some(limit) }).unwrap();
        assert_eq!((found.len(), found.concat().len()), (pages, limit.min(5)), "{limit}");
        assert_eq!(targets(&server).len(), requests, "{limit}");
        if let Some(first) = targets(&server).first() {
            assert_eq!(first, &format!("/api/data?limit={limit}"));
        }
    }
}

#[test]
fn an_original_server_is_asked_for_the_whole_and_the_rest_is_done_here() {
    let lists = |transient, reverse, limit| {
        let server = original();
        let query = DataQuery { transient, ..DataQuery::default() };
        let found = listed(&server, query, Listing { reverse, limit }).unwrap().concat();
        assert_eq!(targets(&server), ["/api/data"], "nothing that it does not know");
        found
    };
    assert_eq!(lists(None, false, None), ["1", "2", "3"]);
    assert_eq!(lists(Some(true), false, None), ["2"]);
    assert_eq!(lists(Some(false), true, Some(1)), ["3"]);
    assert_eq!(lists(None, true, Some(2)), ["3", "2"]);
}

#[test]
fn an_error_ends_the_list_and_is_told() {
    let server = Fake::start(|request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["pages"]})),
        target if target.contains("after=") => json(500, &value!({"message": "no more"})),
        _ => page(&value!([fake::run("r1", "done")]), Some("c1")),
    });
    let ended = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let pages = client(&server).list_runs(RunQuery::default(), Listing { reverse: false, limit: Some(2) });
        pages.map(|page| page.map(|page| page.len()).map_err(|error| error.to_string())).collect::<Vec<_>>().await
    });
    assert_eq!(ended, [Ok(1), Err("no more".to_owned())]);
}
