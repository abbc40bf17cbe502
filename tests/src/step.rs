//! Plans as stories write them: a shell script with tagged inputs and outputs.

use serde_json::{Value, json};

/// A Plan whose work is a script for busybox's shell.
#[derive(Clone, Debug)]
pub struct Step {
    spec: Value,
}

impl Step {
    /// A step that runs `script` in `image`.
    pub fn new(image: &str, script: &str) -> Self {
        let spec = json!({
            "image": image,
            "entrypoint": ["/bin/sh", "-c"],
            "args": [script],
            "inputs": [],
            "outputs": [],
            // Many steps run at once on small machines.
            "resources": {"cpu": "100m", "memory": "64Mi"},
        });
        Self { spec }
    }

    /// Adds an input.
    #[must_use]
    pub fn input(self, path: &str, tags: &[&str]) -> Self {
        self.mountpoint("inputs", path, tags)
    }

    /// Adds an output.
    #[must_use]
    pub fn output(self, path: &str, tags: &[&str]) -> Self {
        self.mountpoint("outputs", path, tags)
    }

    fn mountpoint(mut self, which: &str, path: &str, tags: &[&str]) -> Self {
        self.spec[which].as_array_mut().expect("it was made as a list").push(json!({"path": path, "tags": tags}));
        self
    }

    /// Records the log.
    #[must_use]
    pub fn log(self, tags: &[&str]) -> Self {
        self.set("log", json!({"tags": tags}))
    }

    /// Sets one member of the Plan.
    #[must_use]
    pub fn set(mut self, member: &str, value: Value) -> Self {
        self.spec[member] = value;
        self
    }

    /// Leaves entrypoint and arguments to the image.
    #[must_use]
    pub fn as_the_image_says(mut self) -> Self {
        let members = self.spec.as_object_mut().expect("it was made as a map");
        members.remove("entrypoint");
        members.remove("args");
        self
    }

    /// The Plan file: JSON is YAML.
    pub fn yaml(&self) -> String {
        serde_json::to_string_pretty(&self.spec).expect("it was made of plain values")
    }

    /// The body that a client sends.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&self.spec).expect("it was made of plain values")
    }
}
