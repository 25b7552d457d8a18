//! A replacement cut short at every point of it, in both places, with folders outside.

use super::item::INSIDE;
use super::tree::{content, make_dir};
use super::*;

/// An old data directory, a staged new one, and folders outside of both.
struct Scene {
    _folder: tempfile::TempDir,
    data: PathBuf,
    /// The path by which it is known.
    path: PathBuf,
    wal: PathBuf,
    space: PathBuf,
    forsaken: PathBuf,
    kept: Option<PathBuf>,
}

const NAMES: [&str; 3] = ["PG_VERSION", "base", "global"];

/// Whether the data directory's path is a link.
#[derive(Clone, Copy)]
enum Link {
    No,
    Yes,
}

impl Scene {
    fn new(layout: Layout) -> (Self, Staging) {
        Self::linked(layout, Link::No)
    }

    fn linked(layout: Layout, is_link: Link) -> (Self, Staging) {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let (data, wal, space, forsaken) = (at("data"), at("wal"), at("space"), at("forsaken"));
        fill(&data, "old");
        for outside in [&wal, &space, &forsaken] {
            fs::create_dir(outside).expect("made");
            fs::write(outside.join("file"), "old").expect("written");
        }
        link(&wal, &data.join("pg_wal"));
        link(&space, &data.join("pg_tblspc/1"));
        link(&forsaken, &data.join("pg_tblspc/2"));
        let kept = (layout == Layout::Inside).then(|| data.join(".kept"));
        if let Some(kept) = &kept {
            fs::write(kept, "somebody's").expect("written");
        }
        let path = match is_link {
            Link::No => data.clone(),
            Link::Yes => at("link"),
        };
        if let Link::Yes = is_link {
            link(Path::new("data"), &path);
        }
        let mut staging = Staging::begin(&path).expect("begun");
        assert_eq!(staging.data().layout, layout);
        let new = staging.new_dir();
        fill(&new, "new");
        // As a copy of a file system's root has them.
        fs::write(new.join(".hidden"), "the source's").expect("written");
        fs::create_dir_all(new.join("lost+found/#7")).expect("made");
        for (outside, place) in [(&wal, "pg_wal"), (&space, "pg_tblspc/1")] {
            let place_of_new = staging.also(outside).expect("begun");
            fs::create_dir(&place_of_new).expect("made");
            fs::write(place_of_new.join("file"), "new").expect("written");
            link(&place_of_new, &new.join(place));
        }
        (Scene { _folder: folder, data, path, wal, space, forsaken, kept }, staging)
    }

    fn age(&self) -> String {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
        let files = NAMES.iter().map(|name| read(self.data.join(name).join("file")));
        let outside = ["pg_wal", "pg_tblspc/1"].map(|link| read(self.data.join(link).join("file")));
        let mut ages: Vec<String> = files.chain(outside).collect();
        ages.dedup();
        ages.join(", ")
    }

    fn is_new_and_nothing_is_left(&self) {
        assert_eq!(self.age(), "new");
        for name in [".hidden", "lost+found"] {
            assert!(!self.data.join(name).exists(), "{name} is the source's own");
        }
        assert_eq!(fs::read_link(self.data.join("pg_wal")).expect("a link"), self.wal);
        assert_eq!(fs::read_link(self.data.join("pg_tblspc/1")).expect("a link"), self.space);
        assert_eq!(content(&self.forsaken).expect("read"), Vec::<std::ffi::OsString>::new());
        self.no_staging_is_left();
    }

    fn no_staging_is_left(&self) {
        for target in [&self.data, &self.wal, &self.space] {
            assert!(!files::beside(target, "clone").exists());
            assert!(!target.join(INSIDE).exists());
        }
        assert!(self.kept.as_ref().is_none_or(|kept| kept.exists()));
    }
}

fn fill(dir: &Path, age: &str) {
    for name in NAMES {
        fs::create_dir_all(dir.join(name)).expect("made");
        fs::write(dir.join(name).join("file"), age).expect("written");
    }
    fs::create_dir(dir.join("pg_tblspc")).expect("made");
}

fn link(to: &Path, from: &Path) {
    std::os::unix::fs::symlink(to, from).expect("linked");
}

const LAYOUTS: [Layout; 2] = [Layout::Beside, Layout::Inside];

#[test]
fn a_replacement_that_is_not_cut_short_leaves_the_new_data_alone() {
    for layout in LAYOUTS {
        let (scene, mut staging) = Scene::new(layout);
        assert_eq!(scene.age(), "old");
        staging.place().expect("placed");
        staging.clean().expect("cleaned");
        scene.is_new_and_nothing_is_left();
    }
}

#[test]
fn an_unfinished_copy_is_removed_and_the_old_data_stay() {
    for layout in LAYOUTS {
        let (scene, staging) = Scene::new(layout);
        drop(staging);
        assert_eq!(unfinished(&scene.path), None);
        assert!(matches!(settle(&scene.path).expect("settled"), Settled::Undone));
        assert_eq!(scene.age(), "old");
        assert!(scene.forsaken.join("file").exists());
        scene.no_staging_is_left();
        assert!(matches!(settle(&scene.path).expect("settled"), Settled::Nothing));
    }
}

#[test]
fn old_data_that_were_being_given_up_are_removed_whole() {
    for layout in LAYOUTS {
        let (scene, mut staging) = Scene::new(layout);
        staging.enter(Stage::Discarding).expect("written");
        fs::remove_dir_all(scene.data.join("global")).expect("removed");
        drop(staging);
        assert!(unfinished(&scene.path).is_some());
        assert!(matches!(settle(&scene.path).expect("settled"), Settled::Undone));
        assert!(matches!(super::super::contents::contents(&scene.data), super::super::contents::Contents::Empty));
        scene.no_staging_is_left();
    }
}

/// How many of an item's renames were done when it was cut short.
fn move_some(item: &Item, from: &Path, to: &Path, count: usize) {
    match item.layout {
        Layout::Beside if count > 0 => fs::rename(from, to).expect("moved"),
        Layout::Beside => (),
        Layout::Inside => {
            make_dir(to).expect("made");
            for name in content(from).expect("read").iter().take(count) {
                fs::rename(from.join(name), to.join(name)).expect("moved");
            }
        }
    }
}

#[test]
fn a_move_cut_short_at_any_rename_is_completed() {
    for (layout, is_link) in LAYOUTS.into_iter().flat_map(|layout| [(layout, Link::No), (layout, Link::Yes)]) {
        for items in 0..3 {
            for renames in 0..5 {
                let (scene, mut staging) = Scene::linked(layout, is_link);
                staging.journal.dropped = staging.abandoned().expect("read");
                staging.enter(Stage::MovingOut).expect("written");
                for (index, item) in staging.journal.items.iter().enumerate().take(items + 1) {
                    let count = if index < items { usize::MAX } else { renames };
                    move_some(item, &item.target, &item.old_dir(), count);
                }
                assert!(unfinished(&scene.path).is_some());
                assert!(matches!(settle(&scene.path).expect("settled"), Settled::Completed));
                scene.is_new_and_nothing_is_left();
            }
        }
    }
}

#[test]
fn a_move_in_cut_short_at_any_rename_is_completed() {
    for (layout, is_link) in LAYOUTS.into_iter().flat_map(|layout| [(layout, Link::No), (layout, Link::Yes)]) {
        for items in 0..3 {
            for renames in 0..5 {
                let (scene, mut staging) = Scene::linked(layout, is_link);
                staging.journal.dropped = staging.abandoned().expect("read");
                staging.journal.items.iter().try_for_each(Item::move_out).expect("moved");
                staging.enter(Stage::MovingIn).expect("written");
                for (index, item) in staging.journal.items.iter().enumerate().take(items + 1) {
                    let count = if index < items { usize::MAX } else { renames };
                    item.forget_ignored().expect("removed");
                    move_some(item, &item.new_dir(), &item.target, count);
                }
                assert!(matches!(settle(&scene.path).expect("settled"), Settled::Completed));
                scene.is_new_and_nothing_is_left();
            }
        }
    }
}

#[test]
fn a_journal_that_cannot_be_read_keeps_everything_as_it_is() {
    for layout in LAYOUTS {
        let (scene, mut staging) = Scene::new(layout);
        staging.journal.dropped = staging.abandoned().expect("read");
        staging.enter(Stage::MovingOut).expect("written");
        let journal = staging.data().work().join(item::JOURNAL);
        let whole = fs::read(&journal).expect("read");
        let unread = || {
            assert!(unfinished(&scene.path).is_some_and(|why| why.contains("cannot read")));
            assert!(settle(&scene.path).is_err());
            assert!(staging.new_dir().exists() && scene.age() == "old");
        };
        fs::write(&journal, "another version's").expect("written");
        unread();
        // A folder in its place fails as a bad disk does.
        fs::remove_file(&journal).expect("removed");
        fs::create_dir(&journal).expect("made");
        unread();
        fs::remove_dir(&journal).expect("removed");
        fs::write(&journal, whole).expect("written");
        assert!(matches!(settle(&scene.path).expect("settled"), Settled::Completed));
        scene.is_new_and_nothing_is_left();
    }
}

#[test]
fn what_cannot_be_removed_of_the_old_data_is_in_nobodys_way() {
    use std::os::unix::fs::PermissionsExt;
    for layout in LAYOUTS {
        let (scene, mut staging) = Scene::new(layout);
        let stuck = scene.data.join("base/stuck");
        fs::create_dir(&stuck).expect("made");
        fs::write(stuck.join("file"), "").expect("written");
        fs::set_permissions(&stuck, fs::Permissions::from_mode(0o500)).expect("changed");
        staging.place().expect("placed");
        let remains = staging.data().work();
        let aside = [remains.join("old"), remains.join("left-1")].map(|place| place.join("base/stuck"));
        let settled = settle(&scene.path).expect("settled");
        let is_root = nix::unistd::geteuid().is_root();
        assert!(matches!(settled, Settled::LeftOver(_)) || is_root, "{settled:?}");
        assert_eq!((scene.age().as_str(), unfinished(&scene.path)), ("new", None));

        // Somebody's file makes the next one choose the place inside.
        fs::write(scene.data.join(".kept"), "").expect("written");
        let mut again = Staging::begin(&scene.path).expect("begun");
        assert_eq!(again.data().layout, Layout::Inside);
        fill(&again.new_dir(), "new");
        again.place().expect("placed");
        let _ = again.clean();
        assert!(matches!(settle(&scene.path).expect("settled"), Settled::LeftOver(_)) || is_root);
        for stuck in aside.iter().filter(|stuck| stuck.exists()) {
            fs::set_permissions(stuck, fs::Permissions::from_mode(0o700)).expect("changed");
        }
        let settled = settle(&scene.path).expect("settled");
        assert!(matches!(settled, Settled::Completed | Settled::Nothing), "{settled:?}");
        assert!(!matches!(settle(&scene.path).expect("settled"), Settled::LeftOver(_)));
        scene.no_staging_is_left();
    }
}

#[test]
fn a_folder_of_somebody_elses_that_is_named_like_ours_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let theirs = folder.path().join("data.clone");
    fs::create_dir(&theirs).expect("made");
    fs::write(theirs.join("precious"), "").expect("written");
    assert!(matches!(settle(&folder.path().join("data")).expect("settled"), Settled::Nothing));
    assert!(theirs.join("precious").exists());
    let staging = Staging::begin(&folder.path().join("data")).expect("begun elsewhere");
    assert_eq!(staging.data().layout, Layout::Inside);
    staging.clean().expect("cleaned");
    assert!(theirs.join("precious").exists());
}
