//! What is asked and answered once: the state, a picture, the settings.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use tokio::task::spawn_blocking;

use super::hub::{Change, Hub};

/// Everything that the page shows, as its updates say it.
pub(super) async fn state(State(hub): State<Arc<Hub>>) -> Response {
    Json(hub.board.since(0)).into_response()
}

/// The newest picture.
pub(super) async fn picture(State(hub): State<Arc<Hub>>) -> Response {
    jpeg(hub.pictures.newest().map(|picture| picture.jpeg))
}

/// The picture of an event's worst frame.
pub(super) async fn event_picture(State(hub): State<Arc<Hub>>, Path(id): Path<u64>) -> Response {
    jpeg(hub.board.picture(id))
}

fn jpeg(picture: Option<Bytes>) -> Response {
    match picture {
        Some(jpeg) => ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such picture\n").into_response(),
    }
}

/// Has the stream go on from a little before an event.
pub(super) async fn jump(State(hub): State<Arc<Hub>>, Path(id): Path<u64>) -> Response {
    // It waits for what is under way in the pipeline.
    let jumped = spawn_blocking(move || hub.jump_to_event(id)).await;
    match jumped {
        Ok(Some(Ok(()))) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(Err(why))) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "there is no such event\n").into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

/// Sets thresholds and mute.
pub(super) async fn set(
    State(hub): State<Arc<Hub>>,
    change: Result<Json<Change>, JsonRejection>,
) -> Response {
    let Json(change) = match change {
        Ok(change) => change,
        Err(rejection) => return rejection.into_response(),
    };
    match hub.set(change) {
        Ok(settings) => Json(settings).into_response(),
        Err(why) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{why}\n")).into_response(),
    }
}
