use HTTP::Tiny;
my $r = HTTP::Tiny->new(verify_SSL => 1)->get('https://api.openai.com/v1/models');
die $r->{content} unless $r->{success};
print $r->{content};
