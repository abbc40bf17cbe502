//! Manifests in pieces: whole or not at all.

use crate::world::{World, at, on_both};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use knit_server::engine::ByteStream;
use knit_server::store::{NotKept, Store};
use std::io;

/// Bytes that differ from piece to piece.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 1000 % 251) as u8).collect()
}

fn stream_of(content: &[u8], step: usize) -> ByteStream {
    let pieces: Vec<_> = content.chunks(step).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(stream::iter(pieces))
}

async fn read(store: &Store, digest: &str) -> Option<Vec<u8>> {
    let mut kept = store.manifest(digest).await.unwrap()?;
    let mut bytes = Vec::new();
    while let Some(piece) = kept.stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(bytes.len() as u64, kept.length);
    Some(bytes)
}

async fn pieces(world: &World) -> i64 {
    world.place.number("select count(*) from manifest_piece").await
}

on_both! {
    async fn a_manifest_of_any_length_is_read_as_it_was_kept(world: World) {
        let piece = 256 << 10;
        for (length, step) in [(0, 1), (1, 1), (piece - 1, 1000), (piece, 7777), (piece + 1, piece), (3 * piece + 5, 4 * piece)] {
            let (digest, content) = (format!("digest-{length}"), content(length));
            let before = pieces(&world).await;
            world.store.keep_manifest(&digest, &format!("u{length}"), at(1), stream_of(&content, step)).await.unwrap();
            assert!(read(&world.store, &digest).await.unwrap() == content, "{length}");
            assert_eq!(pieces(&world).await - before, length.div_ceil(piece) as i64, "{length}");
        }
        assert!(read(&world.store, "other").await.is_none());
    }

    async fn a_manifest_that_breaks_off_is_not_there(world: World) {
        let broken = stream_of(&content(1 << 20), 1000).chain(stream::iter([Err(io::Error::other("cut"))]));
        let error = world.store.keep_manifest("d", "u", at(1), Box::pin(broken)).await.unwrap_err();
        assert!(matches!(&error, NotKept::BrokeOff(cause) if cause.to_string() == "cut"), "{error:?}");
        assert!(read(&world.store, "d").await.is_none());
        assert_eq!(pieces(&world).await, 0);
        assert_eq!(world.place.number("select count(*) from manifest_upload").await, 0);
    }

    async fn a_manifest_is_seen_only_when_it_is_complete_and_equal_ones_share(world: World) {
        let content = content(600_000);
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let last = Bytes::copy_from_slice(&content[500_000..]);
        let waiting = stream::once(async move { receiver.await.map(|()| last).map_err(io::Error::other) });
        let slow: ByteStream = Box::pin(stream_of(&content[..500_000], 100_000).chain(waiting));
        let store = world.store.clone();
        let keeping = tokio::spawn(async move { store.keep_manifest("d", "slow", at(1), slow).await });
        while pieces(&world).await == 0 {
            tokio::task::yield_now().await;
        }
        assert!(read(&world.store, "d").await.is_none());

        world.store.keep_manifest("d", "quick", at(1), stream_of(&content, 1 << 20)).await.unwrap();
        sender.send(()).unwrap();
        keeping.await.unwrap().unwrap();
        assert!(read(&world.store, "d").await.unwrap() == content);
        assert_eq!(pieces(&world).await, 3);

        let unread: ByteStream = Box::pin(stream::once(async { panic!("it is there already") }));
        world.store.keep_manifest("d", "again", at(1), unread).await.unwrap();
        assert_eq!(world.place.number("select count(*) from manifest_upload").await, 1);
    }

    async fn what_a_killed_server_began_is_given_up_later_and_nothing_else(world: World) {
        world.store.keep_manifest("d", "whole", at(1), stream_of(&content(1000), 1000)).await.unwrap();
        let store = world.store.clone();
        let keeping = tokio::spawn(async move {
            let endless: ByteStream = Box::pin(stream_of(&content(300_000), 1000).chain(stream::pending()));
            store.keep_manifest("e", "dropped", at(5), endless).await
        });
        while pieces(&world).await < 2 {
            tokio::task::yield_now().await;
        }
        keeping.abort();
        assert!(keeping.await.unwrap_err().is_cancelled());
        assert_eq!(world.store.give_up_manifests(at(5)).await.unwrap(), 0);
        assert_eq!(world.store.give_up_manifests(at(6)).await.unwrap(), 1);
        assert_eq!(pieces(&world).await, 1);
        assert!(read(&world.store, "d").await.is_some());
    }

    async fn a_manifest_whose_pieces_are_gone_is_an_error_and_no_short_one(world: World) {
        world.store.keep_manifest("d", "u", at(1), stream_of(&content(600_000), 1000)).await.unwrap();
        world.place.run("delete from manifest_piece where number = 1").await;
        let kept = world.store.manifest("d").await.unwrap().unwrap();
        let read: Vec<_> = kept.stream.collect().await;
        assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
    }
}
