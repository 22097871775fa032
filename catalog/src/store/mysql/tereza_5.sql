-- Version 5. Processes that write in a catalog that several have, and until when each counts as alive; and the writes that
-- were given up because their process did not: they are committed no more.
CREATE TABLE IF NOT EXISTS TZ_OWNERS (
  OWNER VARCHAR(256) NOT NULL,
  UNTIL_MS BIGINT NOT NULL,
  PRIMARY KEY (OWNER)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE IF NOT EXISTS TZ_GIVEN_UP (
  WRITE_ID VARCHAR(128) NOT NULL,
  PRIMARY KEY (WRITE_ID)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
