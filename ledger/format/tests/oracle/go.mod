module chancery.example/oracle

// What Debian 12 has; golang.org/x/mod v0.20.0 is the last that works with it.
go 1.19

require golang.org/x/mod v0.20.0
