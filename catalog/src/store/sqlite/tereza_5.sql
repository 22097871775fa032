-- Processes that write in a catalog that several have, and until when each counts as alive; and the writes that were given up
-- because their process did not: they are committed no more.
CREATE TABLE TZ_OWNERS (
  OWNER VARCHAR(256) NOT NULL PRIMARY KEY,
  UNTIL_MS BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE TZ_GIVEN_UP (
  WRITE_ID VARCHAR(128) NOT NULL PRIMARY KEY
) WITHOUT ROWID;
