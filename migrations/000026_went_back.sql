-- A database that went back to an earlier state may lack what it has acknowledged, until it got everything back from the others.

alter table pgquorum.resync add column went_back boolean not null default false;
comment on column pgquorum.resync.went_back is 'This node may have lost what it had of it. Until it is here again the node is not counted by reads at QUORUM and ALL.';
