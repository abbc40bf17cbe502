-- Manifests, where no folder of this machine keeps them: compressed, in pieces, by root digest.
--
-- {blob} is a column of bytes.

-- What is being kept or is kept. begun_at: what is no manifest long after that was given up.
create table manifest_upload (
  id text not null primary key,
  begun_at bigint not null
);
create index manifest_upload_begun on manifest_upload (begun_at);

create table manifest_piece (
  upload text not null,
  number bigint not null,
  content {blob} not null,
  primary key (upload, number),
  constraint manifest_piece_upload foreign key (upload) references manifest_upload (id) on delete cascade
);

-- Those that are complete. length: bytes of all pieces.
create table manifest (
  digest text not null primary key,
  upload text not null,
  length bigint not null,
  constraint manifest_upload_once unique (upload),
  constraint manifest_has_upload foreign key (upload) references manifest_upload (id)
);
