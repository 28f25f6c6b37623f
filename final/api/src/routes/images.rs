//! Images.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Shared, blocking};
use crate::error::Error;

pub(crate) async fn list(State(engine): State<Shared>) -> Result<Json<Vec<Value>>, Error> {
    blocking(move || {
        let images = engine.images().list()?;
        let summary = |image: &sampan_engine::Image| {
            json!({
                "Id": image.id.to_string(),
                "ParentId": "",
                "RepoTags": image.references.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "RepoDigests": [],
                "Created": image.created.map_or(0, |time| time.as_second()),
                "Size": image.size,
                "SharedSize": -1,
                "Containers": -1,
                "Labels": {},
            })
        };
        Ok(Json(images.iter().map(summary).collect()))
    })
    .await
}
