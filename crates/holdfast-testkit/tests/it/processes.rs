//! Nothing is left behind; damage and seeds do what they say; the binary is found and run.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use holdfast_testkit::proc::{Guarded, Watchdog, is_alive, run, wait_until};
use holdfast_testkit::user::{command, server_user};
use holdfast_testkit::{Cluster, Damage, Holdfast, PgVersion, Scratch, Store, TestRng, damage};

#[test]
fn scratch_belongs_to_the_server_user_and_goes_away() {
    let scratch = Scratch::new("kit scratch/with odd name");
    let file = scratch.write("a/b/c.txt", "hello");
    assert_eq!(std::fs::metadata(&file).unwrap().uid(), server_user().uid);
    let done = run(command("cat").arg(&file), b"", Duration::from_secs(10));
    assert_eq!((done.code, done.stdout.as_slice()), (0, b"hello".as_slice()));
    let whoami = run(command("id").arg("-u"), b"", Duration::from_secs(10));
    assert_ne!(whoami.stdout, b"0\n");
    let dir = scratch.dir().to_path_buf();
    let clone = scratch.clone();
    drop(scratch);
    assert!(dir.exists());
    drop(clone);
    assert!(!dir.exists() || std::env::var_os("HOLDFAST_KEEP").is_some());
}

#[test]
fn children_do_not_outlive_their_guard() {
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo; sleep 1000"]);
    let guarded = Guarded::new(command.spawn().unwrap());
    let pid = guarded.id();
    let children = || {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    };
    assert!(wait_until(Duration::from_secs(5), || children().len() == 2));
    let all = children();
    drop(guarded);
    assert!(!is_alive(pid) && !all.into_iter().any(is_alive));
}

#[test]
fn a_watchdog_that_is_called_off_does_nothing() {
    let scratch = Scratch::new("kit-watchdog");
    let off = scratch.path("off");
    drop(Watchdog::new("touch \"$1\"", &[&off.to_string_lossy()]));
    assert!(!off.exists());
}

/// Not a test: the process that the next one kills.
#[test]
#[ignore = "runs only inside servers_die_with_a_killed_test_process"]
fn helper_with_a_server() {
    let Some(file) = std::env::var_os("KIT_HELPER_FILE") else { return };
    let scratch = Scratch::new("kit-helper");
    let cluster = Cluster::builder(&scratch, "main", PgVersion::NEWEST).start();
    let store = Store::ministack(&scratch, &[]);
    let told = format!("{} {} {}\n", cluster.pid().unwrap(), store.pid(), scratch.dir().display());
    std::fs::write(file, told).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn servers_die_with_a_killed_test_process() {
    let scratch = Scratch::new("kit-killed");
    let file = scratch.path("told");
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.args(["--ignored", "--exact", "processes::helper_with_a_server"]);
    let mut helper = helper.env("KIT_HELPER_FILE", &file).stdout(Stdio::null()).spawn().unwrap();
    let told = || std::fs::read_to_string(&file).unwrap_or_default();
    assert!(wait_until(Duration::from_secs(60), || told().ends_with('\n')));
    let told = told();
    let mut words = told.split_whitespace();
    let pids: Vec<u32> = words.by_ref().take(2).map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|&pid| is_alive(pid)));
    helper.kill().unwrap();
    helper.wait().unwrap();
    assert!(wait_until(Duration::from_secs(20), || !pids.iter().any(|&pid| is_alive(pid))));
    // A killed process cannot tidy up.
    std::fs::remove_dir_all(words.next().unwrap()).unwrap();
}

#[test]
fn damage_changes_the_file() {
    let scratch = Scratch::new("kit-damage");
    for kind in Damage::ALL {
        let content = TestRng::new(3).bytes(10_000);
        let file = scratch.write("victim", &content);
        let told = kind.apply(&file, &mut TestRng::new(4));
        let now = std::fs::read(&file).ok();
        assert_ne!(now.as_deref(), Some(content.as_slice()), "{told}");
        assert_eq!(now.is_none(), kind == Damage::Delete, "{told}");
    }
    let (a, b) = (scratch.write("a", "1"), scratch.write("b", "2"));
    damage::swap(&a, &b);
    assert_eq!(std::fs::read(&a).unwrap(), b"2");
    assert_eq!(std::fs::read(&b).unwrap(), b"1");
    assert!(damage::files_under(scratch.dir()).contains(&a));
}

#[test]
fn the_binary_is_run_as_the_server_user() {
    let scratch = Scratch::new("kit-binary");
    // A stand-in, so that this test needs no product: put where `Holdfast` would put the real one.
    let script = "#!/bin/sh\nid -u >&2\nprintf '{\"args\": \"%s\", \"x\": \"%s\"}' \"$*\" \"$X\"\n\
                  [ \"$3\" != sleep ] || { echo up; sleep 1000; }\nexit 3\n";
    let path = scratch.write("bin/holdfast", script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let holdfast = Holdfast::new(&scratch, "/p.toml").env("X", "a b");
    let output = holdfast.run(&["status", "--json"]).expect_code(3);
    let output = output.says(&server_user().uid.to_string());
    assert_eq!(output.json()["args"], "--config /p.toml status --json");
    assert_eq!(output.json()["x"], "a b");
    let shell = holdfast.shell();
    assert!(shell.starts_with("env 'X=a b' /") && shell.ends_with("--config /p.toml"), "{shell}");
    let mut running = holdfast.spawn(&["sleep"]);
    running.wait_for("up");
    assert!(running.is_running());
    running.kill9();
    assert!(!running.is_running());
}

#[test]
fn seeds_repeat() {
    let draw = |seed| {
        let mut rng = TestRng::new(seed);
        let mut order: Vec<u32> = (0..20).collect();
        rng.shuffle(&mut order);
        (order, rng.bytes(13), rng.range(5, 9))
    };
    assert_eq!(draw(42), draw(42));
    assert_ne!(draw(42), draw(43));
}
