//! The shared server in a Docker container.
//!
//! The image is made on the spot from the static nats-server binary, so nothing is pulled. Rust does not
//! drop statics and a killed process drops nothing, so a small `sh` watchdog, whose standard input is a pipe
//! that only this process holds open, removes the container and the image when the pipe closes.

use std::{
    fmt::Display,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use testcontainers::{
    ContainerAsync, GenericImage, ImageExt as _,
    core::{IntoContainerPort as _, WaitFor},
    runners::AsyncRunner as _,
};

use crate::unique_context;

/// `docker import` makes an image of one file and, unlike a build, leaves nothing in a build cache.
const IMPORT: &str = r#"
tar -chf - -C "$1" nats-server | docker import --change "$2" - "$3:latest"
"#;
const ENTRYPOINT: &str =
    r#"ENTRYPOINT ["/nats-server", "-a", "0.0.0.0", "-p", "4222", "-js", "-sd", "/data"]"#;

/// A parent that is killed before it could say that the container is up may have left a request
/// with the Docker daemon, hence the pause: a container that appears after the removal would stay.
const WATCHDOG: &str = r#"
read -r word || sleep 3
read -r word
docker rm --force --volumes "$1"
docker rmi --force "$1:latest"
"#;

/// A running container and its watchdog.
#[derive(Debug)]
pub(crate) struct Container {
    url: String,
    _handle: ContainerAsync<GenericImage>,
    _watchdog: Child,
}

impl Container {
    /// Makes the image and starts the container.
    ///
    /// # Panics
    ///
    /// When Docker does not do it: the feature asks for a container, so nothing else takes its place.
    pub(crate) async fn start(binary: &Path) -> Self {
        docker(&["version"]).unwrap_or_else(|error| refuse("`docker version`", error));
        // The container and its image have one name, unknown to other processes, so each cleans up for itself.
        let name = unique_context("cqrs-tests-nats");
        let mut watchdog = watch(&name).unwrap_or_else(|error| refuse("its watchdog", error));
        import(binary, &name).unwrap_or_else(|error| refuse("making an image of nats-server", error));

        let container = GenericImage::new(name.as_str(), "latest")
            .with_wait_for(WaitFor::message_on_stderr("Server is ready"))
            .with_container_name(&name)
            .with_mapped_port(0, 4222.tcp())
            // Docker would publish the port on every interface of the machine.
            .with_host_config_modifier(|host| {
                for binding in
                    host.port_bindings.iter_mut().flatten().flat_map(|(_, all)| all.iter_mut().flatten())
                {
                    binding.host_ip = Some("127.0.0.1".to_owned());
                }
            })
            .start()
            .await
            .unwrap_or_else(|error| refuse("starting the container", error));
        // Only the `docker` command can clean up after a killed process, so both must mean the same daemon.
        docker(&["inspect", "--type", "container", &name])
            .unwrap_or_else(|error| refuse("finding the container with the `docker` command", error));
        if let Some(pipe) = &mut watchdog.stdin {
            pipe.write_all(b"up\n").unwrap_or_else(|error| refuse("its watchdog", error));
        }

        let host = container.get_host().await.unwrap_or_else(|error| refuse("its address", error));
        let port = container.get_host_port_ipv4(4222).await.unwrap_or_else(|error| refuse("its port", error));
        Self { url: format!("nats://{host}:{port}"), _handle: container, _watchdog: watchdog }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// The watchdog is in a process group of its own, so Ctrl-C ends the tests and not their clean-up.
fn watch(name: &str) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", WATCHDOG, "container-watchdog", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn import(binary: &Path, name: &str) -> Result<(), String> {
    let folder = binary.parent().unwrap_or(binary);
    run(Command::new("sh").args(["-c", IMPORT, "import"]).arg(folder).args([ENTRYPOINT, name]))
}

fn docker(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("docker").args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot run: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn refuse(step: &str, error: impl Display) -> ! {
    panic!(
        "The feature `testcontainers` needs a Docker daemon that answers, and {step} failed: {error}.\n\
         Start Docker (`docker info` must work), set DOCKER_HOST if it is elsewhere, \
         or run the tests without the feature."
    )
}
