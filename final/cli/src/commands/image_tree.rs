//! `sampan images --tree`: which images stand on which layers.
//!
//! ```text
//! 0d7c561954a5  13.9MB
//! ├─ busybox:latest
//! └─ 41f3a0a1c2b7  1.02kB
//!    └─ web:latest, web:v1
//! ```
//!
//! A layer stands on the layers below it, so the same layer on other ones is drawn twice. It is on the disk once all the same.

use std::fmt::Write as _;

use sampan_engine::Image;
use sampan_image::DiffId;

use crate::format;

/// A layer on the layers above it in the picture.
#[derive(Default)]
struct Node {
    layers: Vec<(DiffId, u64, Node)>,
    names: Vec<String>,
}

pub(super) fn picture(images: &[&Image]) -> String {
    let mut root = Node::default();
    for image in images {
        let mut at = &mut root;
        for (layer, descriptor) in image.layers.iter().zip(&image.descriptors) {
            let known = at.layers.iter().position(|(other, ..)| other == layer);
            let index = known.unwrap_or_else(|| {
                at.layers.push((layer.clone(), descriptor.size(), Node::default()));
                at.layers.len() - 1
            });
            at = &mut at.layers[index].2;
        }
        let names: Vec<_> = image.references.iter().map(ToString::to_string).collect();
        let nameless = || format!("<none> {}", image.id.short());
        at.names.push(if names.is_empty() { nameless() } else { names.join(", ") });
    }
    let mut out = String::new();
    root.names.iter().for_each(|name| out.push_str(&format!("{name} (no layers)\n")));
    for (layer, size, node) in &root.layers {
        line(&mut out, "", "", layer, *size);
        draw(&mut out, node, "");
    }
    out
}

fn draw(out: &mut String, node: &Node, indent: &str) {
    let count = node.names.len() + node.layers.len();
    let branch = |at: usize| if at + 1 == count { ("└─ ", "   ") } else { ("├─ ", "│  ") };
    for (at, name) in node.names.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{indent}{}{name}", branch(at).0);
    }
    for (at, (layer, size, above)) in node.layers.iter().enumerate() {
        let (this, further) = branch(node.names.len() + at);
        line(out, indent, this, layer, *size);
        draw(out, above, &format!("{indent}{further}"));
    }
}

fn line(out: &mut String, indent: &str, branch: &str, layer: &DiffId, size: u64) {
    let _ = writeln!(out, "{indent}{branch}{}  {}", layer.short(), format::size(size));
}
