-- What was spent of budgets: one row for each budget, subject and period. Amounts are exact decimals, as text.

CREATE TABLE budget_spend (
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    budget TEXT NOT NULL,
    subject TEXT NOT NULL,
    period TEXT NOT NULL CHECK (period IN ('day', 'week', 'month')),
    period_start TEXT NOT NULL,
    spent TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (organization_id, budget, subject, period, period_start)
) STRICT;
CREATE INDEX budget_spend_updates ON budget_spend (updated_at);
