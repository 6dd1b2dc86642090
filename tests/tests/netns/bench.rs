//! The bench measures what it says: each way carries the traffic, every cell has a figure, and the files are what their readers take
//! them for. The figures themselves are nobody's business here.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clusterip_tests::{
    bench::{
        document::Document,
        frames::Frames,
        outside,
        path::{self, Parts, Scale},
        plot, uplink,
    },
    require_root, schema,
};

/// Becomes the process that sends and receives.
const PROGRAM: &str = env!("CARGO_BIN_EXE_bench");
/// Services of the ways that are tried; the third one is called by the first connection, the second by datagrams.
const SERVICES: u32 = 3;

#[test]
fn each_way_of_the_bench_carries_what_is_sent_to_a_service() -> Result<()> {
    require_root!();
    let program = Path::new(PROGRAM);
    for way in path::ways()? {
        let carried = path::carried(program, way, SERVICES).context(way)?;
        // Whom the client called, where it arrived, and whom datagrams went to.
        let wanted = if way.ends_with(", direct") {
            "10.244.0.11:8080 10.244.0.11:8080 10.244.0.11:5353"
        } else {
            "10.96.0.10:80 10.244.0.11:8080 10.96.0.11:53"
        };
        assert_eq!(carried, wanted, "{way}");
    }
    let nobody = path::carried(program, "nobody", SERVICES);
    assert!(
        nobody.is_err(),
        "without anybody who translates: {nobody:?}"
    );
    Ok(())
}

#[test]
fn the_tables_of_the_bench_have_a_figure_in_each_cell_and_their_files_are_well_formed() -> Result<()>
{
    require_root!();
    let scale = Scale {
        sizes: vec![2, SERVICES],
        rounds: 1,
        slice: Duration::from_millis(1),
        firsts: 5,
    };
    let parts = Parts {
        rates: true,
        firsts: true,
    };
    let mut tables = path::tables(Path::new(PROGRAM), &scale, parts)?;
    tables.push(uplink::table(Frames::QUICK)?);
    tables.push(outside::table(Frames::QUICK)?);
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let wanted = [
        "path-udp",
        "path-request",
        "path-connect",
        "path-bulk",
        "first-50",
        "first-99",
        "path-loading",
        "uplink",
        "outside",
    ];
    assert_eq!(names, wanted);
    for table in &tables {
        for row in &table.rows {
            ensure!(row.cells.len() == table.columns.len(), "{row:?}");
            for cell in &row.cells {
                let is_figure = cell.is_some_and(|cell| cell.value.is_finite() && cell.value > 0.0);
                ensure!(is_figure, "{}: {row:?}", table.name);
            }
        }
        let svg = plot::svg(table);
        well_formed(&svg).with_context(|| format!("{}\n{svg}", table.name))?;
    }
    let document = Document {
        name: "test",
        is_quick: true,
        tables: &tables,
    };
    schema::check(&schema::read("bench")?, &document.json())?;
    let folder = tempfile::tempdir()?;
    document.save(folder.path())?;
    for table in &tables {
        let plot = folder.path().join(format!("{}.svg", table.name));
        ensure!(plot.is_file(), "no {}", plot.display());
    }
    let text = std::fs::read_to_string(folder.path().join("test.md"))?;
    ensure!(
        text.contains("![TCP, bulk](performance/path-bulk.svg)"),
        "{text}"
    );
    Ok(())
}

/// As much of XML as the plots use: elements that are closed in order, attributes in quotes, and no bare `&` or `<`.
fn well_formed(text: &str) -> Result<()> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;"];
        let bare = before.match_indices('&').find(|(at, _)| {
            let entity = &before[*at..];
            !known.iter().any(|known| entity.starts_with(known))
        });
        ensure!(bare.is_none(), "a bare & in {before:?}");
        let (tag, after) = after.split_once('>').context("a tag without an end")?;
        ensure!(!tag.contains('<'), "a < in {tag:?}");
        ensure!(
            tag.matches('"').count().is_multiple_of(2),
            "quotes of {tag:?}"
        );
        let name = tag.trim_matches('/').split_whitespace().next();
        let name = name.context("a tag without a name")?;
        if tag.starts_with('/') {
            let last = open.pop();
            ensure!(last == Some(name), "{name} ends {last:?}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = after;
    }
    if !open.is_empty() || !rest.trim().is_empty() {
        bail!("{open:?} stay open before {rest:?}");
    }
    Ok(())
}

#[test]
fn what_is_not_well_formed_is_seen() {
    for (text, is_right) in [
        ("<svg a=\"1\"><b/><c>x &amp; y</c></svg>\n", true),
        ("<svg><b></svg></b>", false),
        ("<svg>x & y</svg>", false),
        ("<svg a=\"1></svg>", false),
        ("<svg>", false),
    ] {
        assert_eq!(well_formed(text).is_ok(), is_right, "{text}");
    }
}
