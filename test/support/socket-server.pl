# socket-server.pl PATH: listens on a Unix socket, and does for each connection what its first line says. No modules.
# Not even strict: where it runs there is none.

$SIG{CHLD} = 'IGNORE';
$SIG{PIPE} = 'IGNORE';
my $path = shift;
socket(my $server, 1, 1, 0) or die "socket: $!";
bind($server, pack('S a*', 1, "$path\0")) or die "bind: $!";
listen($server, 50) or die "listen: $!";

while (accept(my $client, $server)) {
  next if fork;
  my ($line, $piece) = ('', '');
  $line .= $piece while sysread($client, $piece, 1) && $piece ne "\n";
  echo($client) if $line eq 'echo';
  syswrite($client, "bye\n") if $line eq 'close';
  # Says that it has nothing more to say, and goes on listening.
  if ($line eq 'count') {
    syswrite($client, "counting\n");
    shutdown($client, 1);
    my $bytes = 0;
    while (my $read = sysread($client, $piece, 65536)) { $bytes += $read }
    open(my $file, '>', "$path.count") or die "open: $!";
    print $file $bytes;
  }
  exit;
}

sub echo {
  my ($client) = @_;
  while (sysread($client, my $piece, 65536)) {
    for (my $done = 0; $done < length $piece;) {
      my $written = syswrite($client, $piece, length($piece) - $done, $done) or return;
      $done += $written;
    }
  }
}
