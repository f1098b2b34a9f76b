-- Rows of a store that a mirror-registry 3 has written: quay/quay at ffba0c70e, cmd/quay, built with Go 1.26.
-- A database of mirror-registry 2.0.11 (its internal/dal/dbcore/testdata), to which a robot, a user, an
-- organization and two repositories were added, went through "quay migrate -skip-install"; then skopeo pushed to
-- "quay serve": openshift/release as init+ci; the rest as init, with FEATURE_SUPERUSERS_FULL_ACCESS.
-- Here are the tables that are read, without indexes and foreign keys.
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES('9fa37f66a9b6');
CREATE TABLE "user" (
	id INTEGER NOT NULL,
	uuid VARCHAR(36),
	username VARCHAR(255) NOT NULL,
	password_hash VARCHAR(255),
	email VARCHAR(255) NOT NULL,
	verified BOOLEAN NOT NULL,
	stripe_id VARCHAR(255),
	organization BOOLEAN NOT NULL,
	robot BOOLEAN NOT NULL,
	invoice_email BOOLEAN NOT NULL,
	invalid_login_attempts INTEGER DEFAULT '0' NOT NULL,
	last_invalid_login DATETIME NOT NULL,
	removed_tag_expiration_s BIGINT DEFAULT '1209600' NOT NULL,
	enabled BOOLEAN DEFAULT 1 NOT NULL,
	invoice_email_address VARCHAR(255),
	company VARCHAR(255),
	family_name VARCHAR(255),
	given_name VARCHAR(255),
	location VARCHAR(255),
	maximum_queued_builds_count INTEGER,
	creation_date DATETIME,
	last_accessed DATETIME,
	CONSTRAINT pk_user PRIMARY KEY (id)
);
INSERT INTO user VALUES(1,'c6f515bd-b3fa-4c00-9e50-699d713a7ea5','init','$2b$10$nUwNAtISanx9sKKLQxLcEebR8rVJbGiRtz5lEjBMD05Q7.naJyvNW','init@quay.io',1,NULL,0,0,0,0,'2026-07-31 12:36:42.332282',1209600,1,NULL,NULL,NULL,NULL,NULL,NULL,'2026-07-31 12:36:42.332287',NULL);
INSERT INTO user VALUES(2,'u2','openshift',NULL,'o@x',1,NULL,1,0,0,0,'2026-11-29 21:45:58',1209600,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO user VALUES(3,'u3','init+ci',NULL,'r@x',1,NULL,0,1,0,0,'2026-11-29 21:45:58',1209600,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-29 21:46:14');
INSERT INTO user VALUES(4,'u4','dev','$2b$10$nUwNAtISanx9sKKLQxLcEebR8rVJbGiRtz5lEjBMD05Q7.naJyvNW','dev@x',1,NULL,0,0,0,0,'2026-11-29 21:45:58',1209600,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO user VALUES(5,NULL,'mirror',NULL,'mirror@namespace.local',1,NULL,0,0,0,0,'2026-11-29 21:46:32',1209600,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE robotaccounttoken (
	id INTEGER NOT NULL,
	robot_account_id INTEGER NOT NULL,
	token VARCHAR(255) NOT NULL,
	fully_migrated BOOLEAN DEFAULT '0' NOT NULL,
	CONSTRAINT pk_robotaccounttoken PRIMARY KEY (id)
);
INSERT INTO robotaccounttoken VALUES(1,3,'v0$$AAECAwQFBgcICQoLDDAe5c5OOpTPH9OShvfcLFvtQ5R2afOcJM/fZf8U4h4t44ToXWpxZYFnXcG3ymB2ACuSp6BiRxSgpiGT+bs/PuZVxnCnjZHBrXQ0MrRTmHll',1);
CREATE TABLE "repository" (
	id INTEGER NOT NULL,
	namespace_user_id INTEGER,
	name VARCHAR(255) NOT NULL,
	visibility_id INTEGER NOT NULL,
	description TEXT,
	badge_token VARCHAR(255) NOT NULL,
	kind_id INTEGER DEFAULT '1' NOT NULL, trust_enabled BOOLEAN DEFAULT (0) NOT NULL, state INTEGER DEFAULT '0' NOT NULL,
	CONSTRAINT pk_repository PRIMARY KEY (id)
);
INSERT INTO repository VALUES(1,2,'release',2,NULL,'b1',1,0,0);
INSERT INTO repository VALUES(2,2,'secret',2,NULL,'b2',1,0,0);
INSERT INTO repository VALUES(3,1,'app/nested',1,NULL,'',1,0,0);
INSERT INTO repository VALUES(4,5,'ocp/images',1,NULL,'',1,0,0);
CREATE TABLE repositorypermission (
	id INTEGER NOT NULL,
	team_id INTEGER,
	user_id INTEGER,
	repository_id INTEGER NOT NULL,
	role_id INTEGER NOT NULL,
	CONSTRAINT pk_repositorypermission PRIMARY KEY (id)
);
INSERT INTO repositorypermission VALUES(1,NULL,3,1,2);
INSERT INTO repositorypermission VALUES(2,NULL,4,1,3);
CREATE TABLE mediatype (
	id INTEGER NOT NULL,
	name VARCHAR(255) NOT NULL,
	CONSTRAINT pk_mediatype PRIMARY KEY (id)
);
INSERT INTO mediatype VALUES(15,'application/vnd.docker.distribution.manifest.list.v2+json');
INSERT INTO mediatype VALUES(16,'application/vnd.docker.distribution.manifest.v2+json');
INSERT INTO mediatype VALUES(17,'application/vnd.oci.image.manifest.v1+json');
INSERT INTO mediatype VALUES(18,'application/vnd.oci.image.index.v1+json');
CREATE TABLE "manifest" (
	id INTEGER NOT NULL,
	repository_id INTEGER NOT NULL,
	digest VARCHAR(255) NOT NULL,
	media_type_id INTEGER NOT NULL,
	manifest_bytes TEXT NOT NULL, config_media_type VARCHAR(255), layers_compressed_size BIGINT, subject VARCHAR(255), subject_backfilled BOOLEAN, artifact_type VARCHAR(255), artifact_type_backfilled BOOLEAN,
	CONSTRAINT pk_manifest PRIMARY KEY (id)
);
INSERT INTO manifest VALUES(1,1,'sha256:037be70c00d37ed3cdf95ccf0b9956b2a151c2dfab8e709661816281fcb85c9d',17,'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:9d99a75171aea000c711b34c0e5e3f28d3d537dd99d110eafbfbc2bd8e52c2bf", "size": 37}, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:9e14d4cef0c919b065efd9d742509c035e5cf839c8f8184abff6f35814ea6f03", "size": 14}]}',NULL,NULL,NULL,1,'application/vnd.oci.image.config.v1+json',1);
INSERT INTO manifest VALUES(2,1,'sha256:f57e7390ac2e73766111b029a40ae5e5336aa3b5f9740313104a05e1bbc3c81b',17,'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:d6f56bc20064075ce319ac2e6fcef5de9ea21773b0a8a4398c4405222971f9c0", "size": 37}, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:234ca6121c7df85f1c75677765211ce825e9f5b65b4534e18cbd5527422a15f9", "size": 14}]}',NULL,NULL,NULL,1,'application/vnd.oci.image.config.v1+json',1);
INSERT INTO manifest VALUES(3,1,'sha256:becdddc2b84b54c42032476b1dcd7e4afd42257b0918f56a8cbd3ca556d7b4f6',18,'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:037be70c00d37ed3cdf95ccf0b9956b2a151c2dfab8e709661816281fcb85c9d", "size": 416, "platform": {"architecture": "amd64", "os": "linux"}}, {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:f57e7390ac2e73766111b029a40ae5e5336aa3b5f9740313104a05e1bbc3c81b", "size": 416, "platform": {"architecture": "arm64", "os": "linux"}}]}',NULL,NULL,NULL,1,NULL,1);
INSERT INTO manifest VALUES(4,3,'sha256:3d0611e2b975b163adaa02af9d049704a801548e26c0b0faeb83cc8891ba0823',17,'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:9d99a75171aea000c711b34c0e5e3f28d3d537dd99d110eafbfbc2bd8e52c2bf", "size": 37}, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:d3c3d5acf60db71ee80ae8c66cff0233f23421fdb6d72ed3030deebdbb9c7ffd", "size": 12}]}',NULL,NULL,NULL,1,'application/vnd.oci.image.config.v1+json',1);
INSERT INTO manifest VALUES(5,3,'sha256:6ba31ee4c29a515bcec9c2d136f0a4f5d56dff9360ffbc519ba950fabde0a6c4',17,'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:9d99a75171aea000c711b34c0e5e3f28d3d537dd99d110eafbfbc2bd8e52c2bf", "size": 37}, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:a62f9a9bcede5a6fbdc5ee0d8bdbd3841af74da29af374c20dad4fadab651d39", "size": 12}]}',NULL,NULL,NULL,1,'application/vnd.oci.image.config.v1+json',1);
INSERT INTO manifest VALUES(6,3,'sha256:a7bed2e2c6d4fdd28fc073d31b2c4e3a4d4339102178d4a305af516a61f776b4',17,'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:9d99a75171aea000c711b34c0e5e3f28d3d537dd99d110eafbfbc2bd8e52c2bf", "size": 37}, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:d3beea35b144300d7b4d4f44158b4ff22b51f0bf4effc922877e2359b8435798", "size": 18}], "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:6ba31ee4c29a515bcec9c2d136f0a4f5d56dff9360ffbc519ba950fabde0a6c4", "size": 416}}',NULL,NULL,'sha256:6ba31ee4c29a515bcec9c2d136f0a4f5d56dff9360ffbc519ba950fabde0a6c4',1,'application/vnd.oci.image.config.v1+json',1);
INSERT INTO manifest VALUES(7,4,'sha256:6ba31ee4c29a515bcec9c2d136f0a4f5d56dff9360ffbc519ba950fabde0a6c4',17,'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:9d99a75171aea000c711b34c0e5e3f28d3d537dd99d110eafbfbc2bd8e52c2bf", "size": 37}, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:a62f9a9bcede5a6fbdc5ee0d8bdbd3841af74da29af374c20dad4fadab651d39", "size": 12}]}',NULL,NULL,NULL,1,'application/vnd.oci.image.config.v1+json',1);
INSERT INTO manifest VALUES(8,2,'sha256:6ba31ee4c29a515bcec9c2d136f0a4f5d56dff9360ffbc519ba950fabde0a6c4',17,'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:9d99a75171aea000c711b34c0e5e3f28d3d537dd99d110eafbfbc2bd8e52c2bf", "size": 37}, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:a62f9a9bcede5a6fbdc5ee0d8bdbd3841af74da29af374c20dad4fadab651d39", "size": 12}]}',NULL,NULL,NULL,1,'application/vnd.oci.image.config.v1+json',1);
CREATE TABLE tag (
	id INTEGER NOT NULL,
	name VARCHAR(255) NOT NULL,
	repository_id INTEGER NOT NULL,
	manifest_id INTEGER,
	lifetime_start_ms BIGINT NOT NULL,
	lifetime_end_ms BIGINT,
	hidden BOOLEAN DEFAULT (0) NOT NULL,
	reversion BOOLEAN DEFAULT (0) NOT NULL,
	tag_kind_id INTEGER NOT NULL,
	linked_tag_id INTEGER, immutable BOOLEAN DEFAULT (0) NOT NULL,
	CONSTRAINT pk_tag PRIMARY KEY (id)
);
INSERT INTO tag VALUES(1,'4.17',1,3,1795988774844,1795988774845,0,0,1,NULL,0);
INSERT INTO tag VALUES(2,'4.17',1,3,1795988774845,NULL,0,0,1,NULL,0);
INSERT INTO tag VALUES(3,'v1',3,4,1795988775270,1795988775270,0,0,1,NULL,0);
INSERT INTO tag VALUES(4,'v1',3,4,1795988775270,1795988775596,0,0,1,NULL,0);
INSERT INTO tag VALUES(5,'v1',3,5,1795988775596,NULL,0,0,1,NULL,0);
INSERT INTO tag VALUES(6,'sig',3,6,1795988775928,1795988775928,0,0,1,NULL,0);
INSERT INTO tag VALUES(7,'sig',3,6,1795988775928,NULL,0,0,1,NULL,0);
INSERT INTO tag VALUES(8,'x',4,7,1795988792506,1795988792515,0,0,1,NULL,0);
INSERT INTO tag VALUES(9,'x',4,7,1795988792515,NULL,0,0,1,NULL,0);
INSERT INTO tag VALUES(10,'x',2,8,1795988793154,1795988793155,0,0,1,NULL,0);
INSERT INTO tag VALUES(11,'x',2,8,1795988793155,NULL,0,0,1,NULL,0);
