//! What goes on as long as somebody looks: the live picture (multipart/x-mixed-replace) and what changes on the board (a WebSocket).
//!
//! A WebSocket and no event stream: of plain answers that never end a browser allows six at once from one server, for all of its windows.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    hub::Hub,
    pictures::{Newest, Picture},
};

const BOUNDARY: &str = "acdclip-picture";
/// Between two updates of a page, at least.
const BREATH: Duration = Duration::from_millis(100);
/// Between two updates, at most: a page that hears nothing for longer takes its connection for lost.
const PULSE: Duration = Duration::from_secs(1);
/// A page that takes no update for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a page may send, which has nothing to say.
const LONGEST: usize = 256;

/// The answer to one viewer too many.
pub(super) fn full() -> Response {
    let retry = [(header::RETRY_AFTER, "5")];
    let why = "as many viewers as --max-viewers allows are watching already; wanted one fewer\n";
    (StatusCode::SERVICE_UNAVAILABLE, retry, why).into_response()
}

/// A seat, if one is free.
pub(super) fn seat(seats: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(seats).try_acquire_owned().ok()
}

/// The live picture, for as long as the viewer takes it.
pub(super) async fn live(State(hub): State<Arc<Hub>>) -> Response {
    let Some(seat) = seat(&hub.viewers) else {
        return full();
    };
    let begin = Bytes::from(format!("--{BOUNDARY}\r\n"));
    let start = (hub.pictures.slot(), Some(begin), seat);
    let parts = futures_util::stream::unfold(start, |(mut slot, begin, seat)| async move {
        let part = match begin {
            Some(begin) => begin,
            None => part(&next(&mut slot).await?),
        };
        Some((Ok::<_, std::convert::Infallible>(part), (slot, None, seat)))
    });
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(parts)).into_response()
}

async fn next(slot: &mut watch::Receiver<Newest>) -> Option<Picture> {
    loop {
        slot.changed().await.ok()?;
        match &*slot.borrow_and_update() {
            Newest::None => (),
            Newest::Picture(picture) => return Some(picture.clone()),
            Newest::Over => return None,
        }
    }
}

/// Ends with the boundary of the next one: browsers show a picture when they know that it is whole.
fn part(picture: &Picture) -> Bytes {
    let head = format!(
        "Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        picture.jpeg.len()
    );
    let tail = format!("\r\n--{BOUNDARY}\r\n");
    [head.as_bytes(), &picture.jpeg, tail.as_bytes()]
        .concat()
        .into()
}

/// Tells a page what changes.
pub(super) async fn updates(upgrade: WebSocketUpgrade, State(hub): State<Arc<Hub>>) -> Response {
    let Some(seat) = seat(&hub.readers) else {
        return full();
    };
    upgrade
        .max_message_size(LONGEST)
        .max_frame_size(LONGEST)
        .on_upgrade(move |socket| async move {
            tell(socket, &hub).await;
            drop(seat);
        })
}

async fn tell(mut socket: WebSocket, hub: &Hub) {
    let mut changes = hub.board.changes();
    let mut known = 0;
    loop {
        changes.borrow_and_update();
        let update = hub.board.since(known);
        known = update.version;
        let Ok(text) = serde_json::to_string(&update) else {
            return;
        };
        let sent = timeout(PATIENCE, socket.send(Message::Text(text.into()))).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
        sleep(BREATH).await;
        tokio::select! {
            // No more changes: the command ends.
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(PULSE) => (),
            said = socket.recv() => match said {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => (),
                _ => return,
            },
        }
    }
}
