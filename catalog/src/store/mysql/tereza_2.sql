-- Jobs that are queued by priority, belong to the process that runs them, and do their steps one by one.
ALTER TABLE TZ_JOBS
  ADD COLUMN PRIORITY INT NOT NULL DEFAULT 0,
  ADD COLUMN OWNER VARCHAR(256),
  ADD COLUMN STEP INT NOT NULL DEFAULT 0;
