-- Joining: a node that is added to a cluster that has collections serves no request until it holds what the others hold.

alter table pgquorum.node add column joining_since timestamptz;
comment on column pgquorum.node.joining_since is 'Set while the node is filled: it has no ANN indexes yet and is not asked by gateways. Null when it is one of the masters.';
