//! What runs on the machines of a network: [`Server`], [`Proxy`], [`Turn`].

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::Host;

/// A program on a machine, ended when dropped; what it said is printed then if the test has failed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Its files, and its standard output and error in one.
    folder: TempDir,
}

impl Process {
    /// Starts a command, which gets the files that `folder` holds as its own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, folder: TempDir) -> Self {
        let words = [command.get_program()]
            .into_iter()
            .chain(command.get_args());
        let words = words.map(|word| word.to_string_lossy().into_owned());
        let name = words.collect::<Vec<_>>().join(" ");
        let log = File::create(folder.path().join("log")).expect("a file can be made");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        Self {
            name,
            child,
            folder,
        }
    }

    /// What it said until now.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.folder.path().join("log")).map_or_else(
            |e| e.to_string(),
            |log| String::from_utf8_lossy(&log).into_owned(),
        )
    }

    /// Waits until somebody listens on a port of its machine, which should be it.
    ///
    /// # Panics
    /// When nobody does within 10 s.
    pub async fn listens(&self, host: &Host, transport: &str, port: u16) {
        crate::eventually(&self.name, Duration::from_secs(10), async || {
            host.listens(transport, port)
                .then_some(())
                .ok_or_else(|| self.log())
        })
        .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            super::say(&format!("--- {}\n{}", self.name, last.join("\n")));
        }
    }
}

/// A Porthole on a machine, with HTTP on [`Server::PORT`].
#[derive(Debug)]
pub struct Server {
    process: Process,
}

impl Server {
    /// Where HTTP listens, on all addresses of the machine.
    pub const PORT: u16 = 8083;

    /// Where media comes and goes, by UDP and TCP, unless `--media-listen` says otherwise.
    pub const MEDIA_PORT: u16 = 8555;

    /// Starts with these options, each a name and a value. One that this binary does not know is left
    /// out, so that the tests tell what an older one lacks.
    ///
    /// # Panics
    /// When it does not listen within 10 s.
    pub async fn start(host: &Host, options: &[(&str, &str)]) -> Self {
        Self::start_with_file(host, "{}", options).await
    }

    /// Starts with a configuration file.
    ///
    /// # Panics
    /// When it does not listen within 10 s.
    pub async fn start_with_file(host: &Host, yaml: &str, options: &[(&str, &str)]) -> Self {
        let binary = binary();
        let help = Command::new(&binary)
            .arg("--help")
            .output()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", binary.display()));
        let help = String::from_utf8_lossy(&help.stdout);
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("porthole.yaml");
        fs::write(&file, yaml).expect("a file can be made");
        let mut command = host.command(&binary.to_string_lossy());
        command.args(["--log", "debug", "--config"]).arg(file);
        for (name, value) in options {
            if help.contains(&format!("{name} ")) {
                command.args([name, value]);
            }
        }
        let process = Process::start(command, folder);
        process.listens(host, "tcp", Self::PORT).await;
        Self { process }
    }

    /// What it printed until now.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// The binary under test, as for [`crate::server::Server`].
fn binary() -> PathBuf {
    std::env::var_os("PORTHOLE_BIN").map_or_else(
        || crate::folder().join("../target/release/porthole"),
        PathBuf::from,
    )
}

/// An nginx that speaks HTTPS on port 443, with a certificate that nobody vouches for.
#[derive(Debug)]
pub struct Proxy {
    _process: Process,
}

impl Proxy {
    /// Passes all requests on to `upstream`, an address and a port.
    ///
    /// # Panics
    /// When it does not listen within 10 s.
    pub async fn start(host: &Host, upstream: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().display();
        host.run(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=proxy -keyout {path}/key.pem -out {path}/certificate.pem"
        ));
        let configuration = format!(
            "daemon off; pid {path}/pid; error_log stderr; user root; worker_processes 1;
             events {{}}
             http {{
               access_log off;
               client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
               fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
               server {{
                 listen 443 ssl;
                 ssl_certificate {path}/certificate.pem; ssl_certificate_key {path}/key.pem;
                 location / {{
                   proxy_pass http://{upstream};
                   proxy_http_version 1.1;
                   proxy_set_header Host $http_host;
                   proxy_set_header X-Forwarded-Host $http_host;
                   proxy_set_header X-Forwarded-Proto $scheme;
                   proxy_set_header X-Forwarded-For $remote_addr;
                   proxy_set_header Upgrade $http_upgrade;
                   proxy_set_header Connection $connection_upgrade;
                 }}
               }}
               map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
             }}"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).expect("a file can be made");
        let mut command = host.command("nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(file);
        command.args(["-e", "stderr"]);
        let process = Process::start(command, folder);
        process.listens(host, "tcp", 443).await;
        Self { _process: process }
    }

    /// Whether nginx is there.
    ///
    /// # Panics
    /// When it is not and this is CI; elsewhere it says so.
    #[must_use]
    pub fn installed() -> bool {
        crate::tools::has("nginx", &["-v"], "nginx-light")
            && crate::tools::has("openssl", &["version"], "openssl")
    }
}

/// A coturn on port 3478, by UDP and TCP, for one user.
#[derive(Debug)]
pub struct Turn {
    process: Process,
}

impl Turn {
    /// Who may use it.
    pub const USER: &str = "viewer";
    /// Her password.
    pub const PASSWORD: &str = "s3cret";

    /// Listens on the address `listening` of a machine and relays from its address `relaying`.
    ///
    /// # Panics
    /// When it does not listen within 10 s.
    pub async fn start(host: &Host, listening: &str, relaying: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().display();
        let mut configuration = format!(
            "listening-ip={listening}\nrelay-ip={relaying}\nuserdb={path}/users\n\
             pidfile={path}/pid\nlog-file=stdout\nrealm=relay.test\n"
        );
        writeln!(configuration, "user={}:{}", Self::USER, Self::PASSWORD)
            .expect("a string takes all text");
        configuration.push_str("lt-cred-mech\nno-cli\nno-tls\nno-dtls\nverbose\nfingerprint\n");
        let file = folder.path().join("turn.conf");
        fs::write(&file, configuration).expect("a file can be made");
        let mut command = host.command("turnserver");
        command.arg("-c").arg(file);
        let process = Process::start(command, folder);
        process.listens(host, "udp", 3478).await;
        Self { process }
    }

    /// What it printed until now.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Whether coturn is there.
    ///
    /// # Panics
    /// When it is not and this is CI; elsewhere it says so.
    #[must_use]
    pub fn installed() -> bool {
        crate::tools::has("turnserver", &["--version"], "coturn")
    }
}
