use LWP::UserAgent;
my $r = LWP::UserAgent->new->get('https://api.openai.com/v1/models');
die $r->status_line unless $r->is_success;
print $r->content;
