//! Log lines on standard error, for people or as one JSON object each.

use std::{
    io::Write as _,
    sync::{PoisonError, RwLock},
};

use env_logger::{Builder, Logger};
use log::{
    LevelFilter, Log, Metadata, Record,
    kv::{self, Key, Value as KvValue, VisitSource, VisitValue},
};
use serde_json::{Map, Value};

use crate::config::LogFormat;

/// What writes the lines now. It may be another one after a reload.
static CURRENT: RwLock<Option<Logger>> = RwLock::new(None);

struct Current;

impl Log for Current {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        with_current(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        with_current(|logger| {
            logger.log(record);
            true
        });
    }

    fn flush(&self) {
        with_current(|logger| {
            logger.flush();
            true
        });
    }
}

fn with_current(act: impl FnOnce(&Logger) -> bool) -> bool {
    // A panic in between leaves a whole logger: it is replaced at once.
    let current = CURRENT.read().unwrap_or_else(PoisonError::into_inner);
    current.as_ref().is_some_and(act)
}

/// Starts logging, or goes on in another way. `quiet` leaves warnings and errors only; each `verbose` is one level more of
/// what this program says itself.
pub fn start(format: LogFormat, quiet: bool, verbose: u8) {
    let base = if quiet {
        LevelFilter::Warn
    } else {
        LevelFilter::Info
    };
    let own = match (quiet, verbose) {
        (_, 0) => base,
        (true, 1) => LevelFilter::Info,
        (false, 1) => LevelFilter::Debug,
        (_, _) => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    // The program and its library.
    builder.filter(None, base).filter(Some("clusterip"), own);
    match format {
        LogFormat::Text => {
            builder.format_timestamp_millis();
        }
        LogFormat::Json => {
            builder.format(|buffer, record| {
                let time = buffer.timestamp_millis().to_string();
                writeln!(buffer, "{}", line(record, time))
            });
        }
    }
    let logger = builder.build();
    let most = logger.filter();
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(logger);
    log::set_max_level(most);
    // Refused the second time, when it is there already.
    log::set_logger(&Current).ok();
}

fn line(record: &Record<'_>, time: String) -> Value {
    let mut fields = Map::new();
    let mut visit = Fields(&mut fields);
    // A field that fails to be visited is left out: a log line must not fail for it.
    if record.key_values().visit(&mut visit).is_err() {
        fields.insert("incomplete".to_owned(), Value::Bool(true));
    }
    // Last, so that no field can take their place.
    fields.insert("time".to_owned(), Value::String(time));
    for (name, value) in [
        ("level", record.level().to_string().to_lowercase()),
        ("target", record.target().to_owned()),
        ("message", record.args().to_string()),
    ] {
        fields.insert(name.to_owned(), Value::String(value));
    }
    Value::Object(fields)
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: KvValue<'kvs>) -> Result<(), kv::Error> {
        let mut json = Json(Value::Null);
        value.visit(&mut json)?;
        self.0.insert(key.to_string(), json.0);
        Ok(())
    }
}

struct Json(Value);

impl VisitValue<'_> for Json {
    fn visit_any(&mut self, value: KvValue<'_>) -> Result<(), kv::Error> {
        self.0 = Value::String(value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.0 = Value::Null;
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use log::Level;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_json_has_the_message_and_its_fields() {
        let fields: &[(&str, KvValue<'_>)] = &[
            ("service", "default/web".into()),
            ("backends", 3_u64.into()),
            ("local", true.into()),
            ("level", "mine".into()),
        ];
        let record = Record::builder()
            .args(format_args!("programmed \"it\""))
            .level(Level::Info)
            .target("clusterip_agent::reconcile")
            .key_values(&fields)
            .build();
        assert_eq!(
            line(&record, "2026-01-01T00:00:00.000Z".to_owned()),
            json!({"time": "2026-01-01T00:00:00.000Z", "level": "info", "target": "clusterip_agent::reconcile",
                "message": "programmed \"it\"", "service": "default/web", "backends": 3, "local": true})
        );
    }
}
