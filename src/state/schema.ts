/**
 * Migrations, append-only: entry n takes a database from version n to n + 1 in a transaction of its own.
 * Times are RFC 3339 in UTC, sizes are bytes unless the name says otherwise.
 */
export const migrations: readonly string[] = [
  `CREATE TABLE images (
     id TEXT PRIMARY KEY,             -- hex SHA-256 that names the content: of the OCI config, or of the imported rootfs
     source TEXT NOT NULL,            -- pull, import or embedded
     digest TEXT,                     -- manifest digest the registry gave, absent for imports
     size_bytes INTEGER NOT NULL,     -- of the filesystem as the guest sees it
     content_bytes INTEGER NOT NULL,  -- of the files in it
     config TEXT NOT NULL,            -- JSON, see ImageConfig
     layers TEXT NOT NULL,            -- JSON array of blob digests, oldest first
     os_release TEXT NOT NULL,        -- JSON object
     has_shell INTEGER NOT NULL,
     created_at TEXT NOT NULL
   ) STRICT;
   CREATE TABLE image_names (
     name TEXT PRIMARY KEY,           -- normalised reference, or the name given at import
     image_id TEXT NOT NULL REFERENCES images (id)
   ) STRICT;
   CREATE INDEX image_names_by_image ON image_names (image_id);
   CREATE TABLE vms (
     id TEXT PRIMARY KEY,
     name TEXT NOT NULL UNIQUE,
     state TEXT NOT NULL,
     image_id TEXT NOT NULL REFERENCES images (id),
     image_name TEXT NOT NULL,        -- as the user wrote it
     cpus INTEGER NOT NULL,
     memory_mib INTEGER NOT NULL,
     disk_bytes INTEGER NOT NULL,
     network TEXT NOT NULL,
     host_public_key TEXT NOT NULL,   -- the guest's SSH host key, OpenSSH format
     ephemeral INTEGER NOT NULL,      -- belongs to one vm run and goes with it
     control_socket TEXT NOT NULL,    -- path, needed for teardown
     created_at TEXT NOT NULL,
     started_at TEXT,
     stopped_at TEXT,
     last_error TEXT
   ) STRICT;
   CREATE INDEX vms_by_image ON vms (image_id);
   CREATE TABLE workspaces (
     vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
     host_path TEXT NOT NULL,         -- top of the working tree on the host
     guest_path TEXT NOT NULL,
     base_tree TEXT NOT NULL,         -- git tree of what was sent, dirty content included: export compares against it
     head TEXT,                       -- commit, absent on an unborn branch
     branch TEXT,                     -- absent on a detached HEAD
     prepared_at TEXT NOT NULL,
     PRIMARY KEY (vm_id, guest_path)
   ) STRICT;
   CREATE INDEX workspaces_by_host_path ON workspaces (host_path);`,
  // A registered image's filesystem as it was: JSON, see ExternalFile. NULL for images whose files are ours.
  `ALTER TABLE images ADD COLUMN external TEXT;`,
  `CREATE TABLE kernels (
     id TEXT PRIMARY KEY,             -- hex SHA-256 over the hashes of what boots and of the modules
     version TEXT NOT NULL,           -- as uname -r says
     source TEXT NOT NULL,            -- import or pull
     origin TEXT NOT NULL,            -- file or URL that it came from
     format TEXT NOT NULL,            -- elf: vmlinux boots by PVH; bzimage: it does not, and the bzImage does
     image_bytes INTEGER NOT NULL,    -- of vmlinux
     modules_bytes INTEGER NOT NULL,  -- of the archive for the initramfs
     modules TEXT NOT NULL,           -- JSON array of names, in the order of loading
     warnings TEXT NOT NULL,          -- JSON array: what guests of it cannot do
     created_at TEXT NOT NULL
   ) STRICT;
   CREATE TABLE kernel_names (
     name TEXT PRIMARY KEY,
     kernel_id TEXT NOT NULL REFERENCES kernels (id)
   ) STRICT;
   CREATE INDEX kernel_names_by_kernel ON kernel_names (kernel_id);
   CREATE TABLE default_kernel (
     one INTEGER PRIMARY KEY CHECK (one = 1),  -- no row: the embedded kernel
     kernel_id TEXT NOT NULL REFERENCES kernels (id)
   ) STRICT;
   ALTER TABLE vms ADD COLUMN kernel_id TEXT REFERENCES kernels (id);  -- absent: the embedded kernel
   CREATE INDEX vms_by_kernel ON vms (kernel_id);`,
  // What users say about a VM beyond its size, and the ports of the host that lead into it.
  `ALTER TABLE vms ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';  -- JSON object of strings
   ALTER TABLE vms ADD COLUMN ttl_ms INTEGER;                     -- how long it may run after a start
   ALTER TABLE vms ADD COLUMN idle_stop_ms INTEGER;               -- how long it may run without being used
   CREATE TABLE published_ports (
     vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
     protocol TEXT NOT NULL,          -- tcp or udp
     bind TEXT NOT NULL,              -- IPv4 address of the host, 0.0.0.0 for all
     host_port INTEGER NOT NULL,
     guest_port INTEGER NOT NULL,
     chosen INTEGER NOT NULL,         -- 1: the host's port was ours to choose, so another will do
     PRIMARY KEY (protocol, host_port, bind)
   ) STRICT;
   CREATE INDEX published_ports_by_vm ON published_ports (vm_id);`,
  // How an image's filesystem is known again: JSON, see RootfsMark. NULL for files of the user's, and until the next use.
  `ALTER TABLE images ADD COLUMN rootfs TEXT;`,
  // What trees say about VMs that are made for them, and which of it the user has agreed to.
  `CREATE TABLE vm_templates (
     vm_id TEXT PRIMARY KEY REFERENCES vms (id) ON DELETE CASCADE,
     host_path TEXT NOT NULL,         -- top of the working tree on the host
     sha256 TEXT NOT NULL,            -- hex, of the file's bytes
     content TEXT NOT NULL            -- JSON, see Template
   ) STRICT;
   CREATE TABLE trusted_templates (
     host_path TEXT NOT NULL,
     file TEXT NOT NULL,              -- path below the tree
     sha256 TEXT NOT NULL,
     trusted_at TEXT NOT NULL,
     PRIMARY KEY (host_path, file, sha256)
   ) STRICT;`,
  // Tools that a tree names and that were installed for it: JSON, see WorkspaceTools.
  `ALTER TABLE workspaces ADD COLUMN tools TEXT;`,
  // VMs whose tree, tools and setup are on their way: nobody has worked in them yet.
  `CREATE TABLE furnishing (
     vm_id TEXT PRIMARY KEY REFERENCES vms (id) ON DELETE CASCADE
   ) STRICT;`,
  // Trees that are being put in place, until it is known whether they are. The guest has the token of the last one.
  `CREATE TABLE workspace_sends (
     vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
     guest_path TEXT NOT NULL,
     token TEXT NOT NULL,
     workspace TEXT NOT NULL,         -- JSON: what the row in workspaces is to be
     PRIMARY KEY (vm_id, guest_path)
   ) STRICT;
   ALTER TABLE workspaces ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0;`,
  // What of the host a VM gets copies of at each start.
  `ALTER TABLE vms ADD COLUMN file_sync TEXT NOT NULL DEFAULT '[]';            -- JSON array, see VmFileSync
   ALTER TABLE vms ADD COLUMN takes_config_files INTEGER NOT NULL DEFAULT 1;  -- 0: nothing that the configuration names`,
  // The sending that made it what it is. NULL: nobody knows.
  `ALTER TABLE workspaces ADD COLUMN token TEXT;`,
  // How its root disk was made: what the configuration says later is about other VMs.
  `ALTER TABLE vms ADD COLUMN disk_method TEXT NOT NULL DEFAULT 'qcow2';`,
  // Networks behind bridges of the host, and which VM has which address of them.
  `CREATE TABLE networks (
     number INTEGER PRIMARY KEY,      -- 1 to 254: bridge and subnet are named after it
     name TEXT NOT NULL UNIQUE,
     subnet TEXT NOT NULL UNIQUE,     -- CIDR
     is_shared INTEGER NOT NULL,      -- 1: its guests reach each other
     created_at TEXT NOT NULL
   ) STRICT;
   CREATE TABLE vm_addresses (
     vm_id TEXT PRIMARY KEY REFERENCES vms (id) ON DELETE CASCADE,
     network INTEGER NOT NULL REFERENCES networks (number),
     address TEXT NOT NULL UNIQUE
   ) STRICT;`,
  // What guests may reach outside.
  `ALTER TABLE vms ADD COLUMN egress TEXT NOT NULL DEFAULT 'all';  -- all, none, or rules with commas, see EgressPolicy`,
  // Ports that are there as long as something listens in the guest.
  `ALTER TABLE published_ports ADD COLUMN followed INTEGER NOT NULL DEFAULT 0;  -- 1: it came with a listener, and goes with it
   ALTER TABLE vms ADD COLUMN publishes_all INTEGER NOT NULL DEFAULT 0;          -- 1: whatever listens is published`,
  // Unix sockets of the host that lead to sockets in VMs.
  `CREATE TABLE published_sockets (
     host_path TEXT NOT NULL PRIMARY KEY,
     vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
     guest_path TEXT NOT NULL
   ) STRICT;
   CREATE INDEX published_sockets_by_vm ON published_sockets (vm_id);`,
  // What each name was pulled with: tags of one image may have different manifests, and move.
  `ALTER TABLE image_names ADD COLUMN digest TEXT;
   UPDATE image_names SET digest = (SELECT digest FROM images WHERE images.id = image_names.image_id);`,
  // By what a kernel finds its devices: Firecracker 1.7 has no ACPI.
  `ALTER TABLE kernels ADD COLUMN reads_device_words INTEGER;  -- 1: also by its command line; NULL: nobody has looked`,
  // Which port of the host a tree would have for one of its VM's.
  `ALTER TABLE published_ports ADD COLUMN wished INTEGER;  -- NULL: any will do, or host_port and no other`,
];
