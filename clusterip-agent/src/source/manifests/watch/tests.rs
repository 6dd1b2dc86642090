//! A real directory, and what is told of it.

use std::{fs, io::Write as _, os::unix::fs::symlink};

use tokio::time::timeout;

use super::*;

/// Far longer than anything takes: reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

const WEB: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";

struct Watched {
    events: mpsc::Receiver<Vec<Event>>,
    reload: Reload,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watched {
    async fn start(directory: &Path) -> Self {
        let watch = Watch::start(directory, Rules::default(), Kept::default()).expect("a watch");
        let (sender, events) = mpsc::channel(16);
        let reload = watch.reload();
        let task = tokio::spawn(watch.run(sender));
        let mut watched = Self {
            events,
            reload,
            task,
        };
        watched.until(|event| *event == Event::Synced).await;
        watched
    }

    /// Waits for an event, whatever else comes before.
    async fn until(&mut self, is_it: impl Fn(&Event) -> bool) {
        let waited = timeout(PATIENCE, async {
            while let Some(events) = self.events.recv().await {
                if events.iter().any(&is_it) {
                    return true;
                }
            }
            false
        });
        assert_eq!(waited.await, Ok(true), "the event did not come");
    }
}

fn put(port: u16) -> impl Fn(&Event) -> bool {
    use crate::model::object::Spec;
    move |event| match event {
        Event::Put(object) => match &object.spec {
            Spec::Service(service) => {
                let spec = service.spec.as_ref();
                spec.and_then(|it| it.ports().next()).map(|it| it.port) == Some(port)
            }
            _ => false,
        },
        _ => false,
    }
}

fn is_remove(event: &Event) -> bool {
    matches!(event, Event::Remove(_))
}

fn problems(count: usize) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Problems(found) if found.len() == count)
}

#[tokio::test]
async fn a_file_that_is_written_changed_renamed_and_taken_away_is_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut watched = Watched::start(directory.path()).await;
    let path = directory.path().join("web.yaml");
    fs::write(&path, WEB).expect("written");
    watched.until(put(80)).await;
    fs::write(&path, WEB.replace("80", "79")).expect("written");
    // F8: the change is the file's, not the moment it was read.
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    watched
        .until(|event| *event == Event::Changed(timestamp(written)))
        .await;
    // As editors do it: beside it, then over it.
    let draft = directory.path().join(".web.yaml.swp");
    fs::write(&draft, WEB.replace("80", "81")).expect("written");
    fs::rename(&draft, &path).expect("renamed");
    watched.until(put(81)).await;
    fs::write(&path, "kind: [").expect("written");
    watched.until(problems(1)).await;
    fs::write(&path, WEB.replace("80", "82")).expect("written");
    watched.until(put(82)).await;
    fs::remove_file(&path).expect("removed");
    watched.until(is_remove).await;
}

/// A `ConfigMap` volume: the files are links through `..data`, which is swapped as a whole.
#[tokio::test]
async fn the_link_of_a_config_map_volume_is_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    for (version, port) in [("..1", "80"), ("..2", "81")] {
        fs::create_dir(at(version)).expect("a directory");
        let text = WEB.replace("80", port);
        fs::write(at(version).join("web.yaml"), text).expect("written");
    }
    symlink("..1", at("..data")).expect("a link");
    symlink("..data/web.yaml", at("web.yaml")).expect("a link");
    let mut watched = Watched::start(directory.path()).await;
    symlink("..2", at("..data_tmp")).expect("a link");
    fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
    watched.until(put(81)).await;
}

/// Whose first half is a manifest too.
const WEB_AND_DB: [&str; 2] = [
    WEB,
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 5432}]}\n",
];

/// F, H: as `cp` and many a program do it: emptied, and filled again in pieces.
#[tokio::test]
async fn h_a_file_that_is_half_written_while_it_is_read_keeps_what_it_defined() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("all.yaml");
    let [web, db] = WEB_AND_DB;
    fs::write(&path, WEB_AND_DB.concat()).expect("written");
    let mut watched = Watched::start(directory.path()).await;
    let mut writer = fs::File::create(&path).expect("emptied");
    watched.until(problems(1)).await;
    let changed = web.replace("80", "81");
    // A good manifest at each pause, though none that anybody means.
    for part in [changed.as_str(), db] {
        writer.write_all(part.as_bytes()).expect("written");
        watched.reload.now().await;
    }
    while let Ok(events) = watched.events.try_recv() {
        assert_eq!(events, [], "nothing has been said yet");
    }
    drop(writer);
    watched.until(put(81)).await;
    fs::write(&path, &changed).expect("written");
    watched.until(is_remove).await;
}

/// F, H: each half is written by a program of its own. A half that is no manifest changes nothing.
#[tokio::test]
async fn h_a_file_that_was_left_half_written_keeps_what_it_defined_until_it_is_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("web.yaml");
    fs::write(&path, WEB).expect("written");
    let mut watched = Watched::start(directory.path()).await;
    let changed = WEB.replace("80", "81");
    let (half, rest) = changed.split_at(changed.find("port:").expect("a port"));
    fs::write(&path, half).expect("written");
    watched.until(problems(1)).await;
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(rest.as_bytes()))
        .expect("written");
    watched.until(put(81)).await;
    assert!(fs::read_to_string(&path).is_ok_and(|text| text == changed));
}

#[test]
fn who_reads_a_file_is_not_told_of_it() {
    for (kind, wanted) in [
        (AccessKind::Open(AccessMode::Any), true),
        (AccessKind::Read, true),
        (AccessKind::Close(AccessMode::Read), true),
        (AccessKind::Close(AccessMode::Write), false),
    ] {
        assert_eq!(is_a_look(EventKind::Access(kind)), wanted, "{kind:?}");
    }
    assert!(!is_a_look(EventKind::Any));
}

/// SIGHUP: a link to a file elsewhere changes without a word from the kernel.
#[tokio::test]
async fn a_reload_reads_at_once() {
    let (directory, elsewhere) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let file = elsewhere.path().join("web.yaml");
    fs::write(&file, WEB).expect("written");
    symlink(&file, directory.path().join("web.yaml")).expect("a link");
    let mut watched = Watched::start(directory.path()).await;
    fs::write(&file, WEB.replace("80", "81")).expect("written");
    watched.reload.now().await;
    let events = watched.events.try_recv().expect("events");
    assert!(events.iter().any(put(81)), "{events:?}");
}

#[tokio::test]
async fn a_directory_that_goes_and_comes_back_is_found_again() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("manifests");
    fs::create_dir(&directory).expect("a directory");
    let path = directory.join("web.yaml");
    fs::write(&path, WEB).expect("written");
    let mut watched = Watched::start(&directory).await;
    let aside = parent.path().join("aside");
    fs::rename(&directory, &aside).expect("renamed");
    // inotify follows the directory, not its name: a change in it is told, and then the name is looked up.
    fs::write(aside.join("nudge"), "").expect("written");
    watched.until(problems(1)).await;
    fs::create_dir(&directory).expect("a directory");
    fs::write(&path, WEB.replace("80", "81")).expect("written");
    watched.until(put(81)).await;
    fs::write(&path, WEB.replace("80", "82")).expect("written");
    watched.until(put(82)).await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_at_the_start_is_an_error() {
    let missing = Path::new("/no/such/directory");
    let error = Watch::start(missing, Rules::default(), Kept::default());
    let error = error.err().expect("an error").to_string();
    assert!(
        error.contains("/no/such/directory does not exist; create it"),
        "{error}"
    );
}
