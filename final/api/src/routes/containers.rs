//! Containers.

use axum::Json;
use axum::extract::{Query, State};
use sampan_engine::{Container, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, blocking};
use crate::error::Error;

/// `GET /containers/json?all=1`
#[derive(Deserialize)]
pub(crate) struct List {
    #[serde(default)]
    all: String,
}

pub(crate) async fn list(
    State(engine): State<Shared>,
    Query(query): Query<List>,
) -> Result<Json<Vec<Value>>, Error> {
    let all = matches!(query.all.as_str(), "1" | "true" | "True");
    blocking(move || {
        let containers = engine.containers()?;
        Ok(Json(
            containers
                .iter()
                .filter(|container| all || container.state.status == Status::Running)
                .map(summary)
                .collect(),
        ))
    })
    .await
}

fn summary(container: &Container) -> Value {
    let config = &container.config;
    json!({
        "Id": config.id,
        "Names": [format!("/{}", config.name)],
        "Image": config.image,
        "ImageID": config.image_id,
        "Command": config.args.join(" "),
        "Created": config.created.as_second(),
        "State": container.state.status,
        "Status": container.state.status.to_string(),
        "Ports": [],
        "Labels": config.labels,
        "Mounts": [],
        "HostConfig": { "NetworkMode": config.network },
    })
}
