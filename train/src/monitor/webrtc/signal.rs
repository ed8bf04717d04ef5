//! How a browser and this machine find each other: it asks for an offer, answers it, and says goodbye. A viewer that is lost is removed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::{spawn, spawn_blocking},
    time::sleep,
};

use super::{Answer, Broadcast, OVER, viewer::Contact};
use crate::{
    monitor::{
        feed::{full, seat},
        hub::Hub,
    },
    outcome::warn,
};

/// How long a viewer may take from the offer until it can be reached.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at what has gone wrong.
const LOOK: Duration = Duration::from_secs(1);

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

fn gone() -> Response {
    let why = "wanted a viewer of this monitor, found none by that number: ask for another offer";
    refuse(StatusCode::NOT_FOUND, why)
}

/// Offers the picture.
pub(in crate::monitor) async fn offer(State(hub): State<Arc<Hub>>) -> Response {
    let Some(broadcast) = hub.broadcast.clone() else {
        return refuse(
            StatusCode::NOT_FOUND,
            "the picture is not to be had by WebRTC here; /live.mjpeg has it",
        );
    };
    if broadcast.is_over() {
        return refuse(StatusCode::GONE, OVER);
    }
    let Some(seat) = seat(&hub.viewers) else {
        return full();
    };
    // Whoever asks may go away: what was begun for them is ended all the same.
    match spawn(make(broadcast, seat)).await {
        Ok(Ok((id, sdp))) => {
            let offer = serde_json::json!({"id": id, "sdp": sdp});
            (StatusCode::CREATED, Json(offer)).into_response()
        }
        Ok(Err(why)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}

async fn make(
    broadcast: Arc<Broadcast>,
    seat: OwnedSemaphorePermit,
) -> Result<(u64, String), String> {
    let made = Arc::clone(&broadcast);
    let made = spawn_blocking(move || made.offer(seat)).await;
    let (id, sdp) = made.map_err(|e| e.to_string())??;
    spawn(attend(broadcast, id));
    Ok((id, sdp))
}

/// Takes the answer to an offer.
pub(in crate::monitor) async fn answer(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<u64>,
    sdp: String,
) -> Response {
    let viewer = hub
        .broadcast
        .as_ref()
        .and_then(|broadcast| broadcast.viewer(id));
    let (Some(broadcast), Some(viewer)) = (hub.broadcast.clone(), viewer) else {
        return gone();
    };
    let answer = match Answer::parse(&sdp) {
        Ok(answer) => answer,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    let taken = spawn_blocking(move || {
        let taken = viewer.take(&answer);
        drop(viewer);
        if taken.is_err() {
            broadcast.remove(id);
        }
        taken
    });
    match taken.await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(why)) => refuse(StatusCode::CONFLICT, &why),
        Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}

/// A viewer goes.
pub(in crate::monitor) async fn leave(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<u64>,
) -> Response {
    match hub.broadcast.clone() {
        Some(broadcast) if broadcast.viewer(id).is_some() => {
            remove(broadcast, id).await;
            StatusCode::NO_CONTENT.into_response()
        }
        _ => gone(),
    }
}

/// Pipelines take their time to stop.
async fn remove(broadcast: Arc<Broadcast>, id: u64) {
    // It only fails where the command ends.
    let _ = spawn_blocking(move || broadcast.remove(id)).await;
}

/// Sees to a viewer until it is gone.
async fn attend(broadcast: Arc<Broadcast>, id: u64) {
    let Some(mut contact) = broadcast.viewer(id).map(|viewer| viewer.contact()) else {
        return;
    };
    let begun = Instant::now();
    let mut is_begun = false;
    loop {
        tokio::select! {
            // It was removed.
            changed = contact.changed() => if changed.is_err() { return },
            () = sleep(LOOK) => (),
        }
        let so_far = *contact.borrow_and_update();
        let is_over = match so_far {
            Contact::Seeking => begun.elapsed() > PATIENCE,
            Contact::Made => broadcast.viewer(id).is_none_or(|viewer| viewer.is_silent()),
            Contact::Lost => true,
        };
        if is_over {
            break;
        }
        let is_new =
            so_far == Contact::Made && !std::mem::replace(&mut is_begun, so_far == Contact::Made);
        let looked = Arc::clone(&broadcast);
        let looked = spawn_blocking(move || {
            if is_new {
                looked.begin()?;
            } else {
                looked.catch_up();
            }
            looked.check(id)
        });
        if let Ok(Err(why)) = looked.await {
            warn(&format!("a viewer loses the picture: {why}"));
            break;
        }
    }
    remove(broadcast, id).await;
}
