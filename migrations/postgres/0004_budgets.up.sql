-- What was spent of budgets: one row for each budget, subject and period. Amounts are exact decimals, as text; a row is
-- locked while one is added.

CREATE TABLE budget_spend (
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    budget TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    period TEXT COLLATE "C" NOT NULL CHECK (period IN ('day', 'week', 'month')),
    period_start TIMESTAMPTZ NOT NULL,
    spent TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (organization_id, budget, subject, period, period_start)
);
CREATE INDEX budget_spend_updates ON budget_spend (updated_at);

-- An organization sees and writes its own rows; the gateway (`brokle.system` is `budgets`) reads every organization's.
ALTER TABLE budget_spend ENABLE ROW LEVEL SECURITY;
ALTER TABLE budget_spend FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON budget_spend USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON budget_spend FOR SELECT USING (current_setting('brokle.system', true) = 'budgets');
