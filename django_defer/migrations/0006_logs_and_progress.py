import django.db.models.deletion
import django_defer.clock
import django_defer.models.runs
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('django_defer', '0005_autovacuum'),
    ]

    operations = [
        migrations.CreateModel(
            name='Progress',
            fields=[
                ('run', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='progress', serialize=False, to='django_defer.run', verbose_name='run')),
                ('attempt', models.PositiveSmallIntegerField(verbose_name='attempt')),
                ('done', models.PositiveBigIntegerField(verbose_name='done')),
                ('total', models.PositiveBigIntegerField(null=True, verbose_name='total')),
                ('message', models.CharField(blank=True, max_length=2000, verbose_name='message')),
                ('at', django_defer.clock.InstantField(verbose_name='at')),
            ],
            options={
                'verbose_name': 'progress',
                'verbose_name_plural': 'progress',
                'default_permissions': (),
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='LogLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attempt', models.PositiveSmallIntegerField(verbose_name='attempt')),
                ('number', models.PositiveIntegerField(verbose_name='number')),
                ('level', models.SmallIntegerField(verbose_name='level')),
                ('at', django_defer.clock.InstantField(verbose_name='at')),
                ('logger', models.CharField(blank=True, max_length=200, verbose_name='logger')),
                ('message', models.TextField(blank=True, verbose_name='message')),
                ('run', django_defer.models.runs.Reference(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='log_lines', to='django_defer.run', verbose_name='run')),
            ],
            options={
                'verbose_name': 'log line',
                'verbose_name_plural': 'log lines',
                'ordering': ('attempt', 'number'),
                'default_permissions': (),
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(fields=('run', 'attempt', 'number'), name='defer_logline_place')],
            },
        ),
    ]
