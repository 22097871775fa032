//! A host of the test's own: a network namespace, joined to this one by a link that can be cut.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{missing, tereza};

/// The host at the other end of the link.
pub(crate) struct Host {
    namespace: String,
    link: String,
    /// This end's address.
    pub(crate) here: String,
    /// The other end's address.
    pub(crate) there: String,
}

impl Host {
    /// Makes one, where that is allowed.
    pub(crate) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, nth) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (namespace, link) = (format!("tereza-{process}-{nth}"), format!("tz{process}n{nth}"));
        let (net, first) = (format!("10.213.{}", process % 250), 4 * nth);
        let [here, there] = [first + 1, first + 2].map(|end| format!("{net}.{end}"));
        let host = Self { namespace, link, here, there };
        let Host { namespace, link, here, there } = &host;
        let is_made = ip(&["netns", "add", namespace])
            && ip(&["link", "add", link, "type", "veth", "peer", "name", "tereza0", "netns", namespace])
            && ip(&["addr", "add", &format!("{here}/30"), "dev", link])
            && ip(&["link", "set", link, "up"])
            && ip(&["-n", namespace, "addr", "add", &format!("{there}/30"), "dev", "tereza0"])
            && ip(&["-n", namespace, "link", "set", "tereza0", "up"])
            && ip(&["-n", namespace, "link", "set", "lo", "up"]);
        if !is_made {
            missing("a network namespace (root and iproute2)");
            return None;
        }
        Some(host)
    }

    /// The program on that host.
    pub(crate) fn tereza(&self) -> Command {
        let program = tereza();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program.get_program()).args(program.get_args());
        for (key, value) in program.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }

    /// Lets nothing through, without telling anybody.
    pub(crate) fn cut(&self) {
        assert!(ip(&["link", "set", &self.link, "down"]));
    }

    /// Lets everything through.
    pub(crate) fn mend(&self) {
        assert!(ip(&["link", "set", &self.link, "up"]));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The link goes with it.
        ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).status().is_ok_and(|status| status.success())
}
