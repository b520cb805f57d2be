DROP TABLE budget_spend;
