//! Statements about `semantic_vectors`, for [`crate::vectors`].

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};
use clickhouse::{Row, RowOwned, RowWrite};
use serde::Deserialize;

use super::super::AnalyticsError;
use super::connection::ClickHouse;
use super::sql::Sql;
use super::writer;

#[derive(Debug, Row, Deserialize)]
struct Near {
    key: String,
    score: f64,
}

impl ClickHouse {
    pub(crate) async fn write<T: RowOwned + RowWrite + Sync>(
        &self,
        table: &str,
        rows: &[T],
    ) -> Result<(), AnalyticsError> {
        writer::write(self, table, rows, None).await
    }

    pub(crate) async fn nearest_vector(
        &self,
        project: ProjectId,
        space: &str,
        vector: &[f32],
        now: DateTime<Utc>,
    ) -> Result<Option<(String, f32)>, AnalyticsError> {
        let mut sql = Sql::new("SELECT o.key, toFloat64(1 - cosineDistance(o.vector, ");
        sql.floats(vector).push(")) AS score FROM semantic_vectors AS o FINAL WHERE o.project_id = ");
        sql.text(&project.to_string()).push(" AND o.space = ").text(space);
        sql.push(" AND o.expires_at > fromUnixTimestamp64Milli(").integer(now.timestamp_millis());
        // Vectors of another model's have other dimensions, and can't be compared.
        sql.push(") AND length(o.vector) = ").integer(i64::try_from(vector.len()).unwrap_or(i64::MAX));
        sql.push(" ORDER BY score DESC LIMIT 1");
        let near = self.look_up::<Near>(sql).await?.into_iter().next();
        Ok(near.map(|near| (near.key, near.score as f32)))
    }

    pub(crate) async fn count_vectors(
        &self,
        project: ProjectId,
        keys: Vec<String>,
        now: DateTime<Utc>,
    ) -> Result<u64, AnalyticsError> {
        let mut sql = Sql::new("SELECT uniqExact(o.key) FROM semantic_vectors AS o WHERE o.project_id = ");
        sql.text(&project.to_string()).push(" AND o.key IN ").texts(keys);
        sql.push(" AND o.expires_at > fromUnixTimestamp64Milli(").integer(now.timestamp_millis()).push(")");
        Ok(self.look_up::<u64>(sql).await?.first().copied().unwrap_or_default())
    }

    pub(crate) async fn remove_vectors(
        &self,
        project: ProjectId,
        keys: Vec<String>,
    ) -> Result<(), AnalyticsError> {
        let mut sql = Sql::new("ALTER TABLE semantic_vectors DELETE WHERE project_id = ");
        sql.text(&project.to_string()).push(" AND key IN ").texts(keys).push(" SETTINGS mutations_sync = 1");
        self.run(sql).await
    }
}
